"""Optimizers, clipping and schedules against torch's own numbers and their formulas."""

import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from golden_files import cases, load
from reference import relative_error
from targets import on_every_device, on_host

import snnumba as snn
from snnumba import backend, optim

# torch's numbers in the same steps. float64: another order of multiplications. float32: 2^-24 a rounding, 50 steps
TOLERANCE = {"float64": 1e-10, "float32": 2e-6}
OPTIMIZERS = {
    "Adam": lambda net: optim.Adam(net, lr=0.01, weight_decay=0.1),
    "AdamW": lambda net: optim.AdamW(net, lr=0.01, weight_decay=0.1),
    "SGD": lambda net: optim.SGD(net, lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True),
}
Make = Callable[[snn.Network], optim.Optimizer]
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = snn.get_num_threads()
    yield
    snn.set_num_threads(before)


def small_net(dtype: str = "float64", seed: int = 0) -> snn.Network:
    """A net with a weight (3, 4), "0.weight", and a bias (5,), "2.bias", as the golden cases have, and others."""
    rleaky = [snn.RLeaky(beta=0.9, linear_features=n) for n in (3, 5)]
    return snn.Network(snn.Linear(4, 3), rleaky[0], snn.Linear(3, 5), rleaky[1], num_steps=2, dtype=dtype, seed=seed)


def fill_gradients(net: snn.Network, seed: int, scale: float = 1.0) -> None:
    """Normal random gradients."""
    rng = np.random.default_rng(seed)
    for g in net.gradients.values():
        g[...] = rng.normal(0, scale, g.shape)


def all_gradients(net: snn.Network) -> np.ndarray:
    return np.concatenate([g.ravel() for g in net.gradients.values()])


def trained(make: Make, steps: int, seed: int = 0) -> tuple[snn.Network, optim.Optimizer]:
    """A net and its optimizer after steps with random gradients."""
    net = small_net(seed=seed)
    optimizer = make(net)
    for step in range(steps):
        fill_gradients(net, step)
        optimizer.step()
    return net, optimizer


# Optimizers ---------------------------------------------------------------------------------------------------


@on_every_device
@pytest.mark.parametrize("case", cases("adam.h5"))
def test_fifty_steps_equal_torch(case: str, device: str) -> None:
    config, data = load("adam.h5", case)
    named = small_net(config["dtype"])  # on the CPU, where arrays can be written to by name
    net, kernels = small_net(config["dtype"]).to(device), backend.load(device)
    optimizer = getattr(optim, config["optimizer"])(net, **config["params"])
    golden = {"w": "0.weight", "b": "2.bias"}
    for short, name in golden.items():
        named.parameters[name][...] = data[f"{short}_start"]
    kernels.write(named.vector, net.vector)
    for step in range(config["steps"]):
        for short, name in golden.items():
            named.gradients[name][...] = data[f"{short}_grads"][step]
        kernels.write(named.gradient_vector, net.gradient_vector)
        optimizer.step()
        named.vector[:] = on_host(net.vector)
        for short, name in golden.items():
            assert relative_error(named.parameters[name], data[f"{short}_path"][step]) < TOLERANCE[config["dtype"]]


@every_optimizer
def test_float32_follows_float64(make: Make) -> None:
    nets = [small_net(dtype) for dtype in ("float32", "float64")]
    for net in nets:
        optimizer = make(net)
        for step in range(50):
            fill_gradients(net, step)
            optimizer.step()
    # 50 roundings of the parameter, 2^-24 of it each, add up at random; 1 - beta2 in float32 would be off by 2e-5
    assert relative_error(nets[0].vector, nets[1].vector) < 1e-6


@every_optimizer
def test_lr_may_be_set_between_steps(make: Make) -> None:
    net, optimizer = trained(make, 3)
    before = net.vector.copy()
    optimizer.lr = 0
    optimizer.step()
    np.testing.assert_array_equal(net.vector, before)  # AdamW's decay is times lr too
    optimizer.lr = 0.01
    optimizer.step()
    assert (net.vector[net.gradient_vector != 0] != before[net.gradient_vector != 0]).all()


@every_optimizer
def test_a_step_leaves_the_gaps_of_the_flat_vector_zero(make: Make) -> None:
    net, _ = trained(make, 3)
    used = sum(x.size for x in net.parameters.values())
    assert np.count_nonzero(net.vector) == used < net.vector.size


@pytest.mark.compiled
@every_optimizer
@pytest.mark.usefixtures("_threads_as_before")
def test_threads_do_not_change_a_bit(make: Make) -> None:
    vectors = []
    for threads in (1, 2, 3):
        snn.set_num_threads(threads)
        net = snn.Network(snn.Linear(700, 501), snn.RLeaky(beta=0.9, linear_features=501), num_steps=2, seed=0)
        assert net.vector.size > 2 * (1 << 17)  # enough for three threads
        optimizer = make(net)
        for step in range(3):
            fill_gradients(net, step)
            optimizer.step()
        vectors.append(net.vector)
    for other in vectors[1:]:
        np.testing.assert_array_equal(other, vectors[0])


@every_optimizer
def test_a_state_goes_on_to_the_bit(make: Make) -> None:
    net, optimizer = trained(make, 3)
    other = small_net(seed=1)
    other.load_state_dict(net.state_dict())
    resumed = make(other)
    resumed.load_state_dict(optimizer.state_dict())
    for one, its in ((net, optimizer), (other, resumed)):
        fill_gradients(one, 99)
        its.step()
    assert resumed.steps == optimizer.steps == 4
    np.testing.assert_array_equal(other.vector, net.vector)


def test_a_state_is_a_copy() -> None:
    _, optimizer = trained(optim.Adam, 1)
    optimizer.state_dict()["m"][:] = 7
    assert not (optimizer.state_dict()["m"] == 7).any()


def test_a_config_makes_the_optimizer_again() -> None:
    net = small_net()
    made = optim.SGD(net, 0.1, momentum=0.5)
    config = made.config
    assert config == {"name": "SGD", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.0, "nesterov": False}
    again = getattr(optim, config.pop("name"))(net, **config)
    assert repr(again) == repr(made) == "SGD(lr=0.1, momentum=0.5, weight_decay=0.0, nesterov=False)"


BAD_STATES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a name missing": ({"v": None}, KeyError, "the optimizer's state lacks v; it has m, steps"),
    "a name too many": ({"b": np.zeros(3)}, KeyError, "the optimizer's state has b, which this one does not"),
    "another size": ({"m": np.zeros(3)}, ValueError, r"m must be \(\d+,\); got \(3,\)"),
    "NaN": ({"v": np.nan}, ValueError, r"v must hold finite numbers; got .*nan.* at \(0,\)"),
    "texts": ({"m": "x"}, ValueError, r"m must hold numbers; got <U1"),
    "a negative square": ({"v": -1.0}, ValueError, r"v must hold averages of squares; got .*-1"),
    "no count": ({"steps": -1}, ValueError, "steps must be a count; got -1"),
    "steps not whole": ({"steps": 1.5}, ValueError, "steps must be a count; got 1.5"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_is_refused_before_anything_changes(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    net, optimizer = trained(optim.Adam, 2)
    state: dict[str, Any] = {"steps": 7, "m": np.ones(net.vector.size), "v": np.ones(net.vector.size)}
    for name, value in change.items():
        state[name] = np.full(net.vector.size, value) if np.ndim(value) == 0 and name in "mv" else value
        if value is None:
            del state[name]
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


BAD_ARGUMENTS: dict[str, tuple[Callable[[snn.Network], Any], type[Exception], str]] = {
    "no net": (lambda net: optim.Adam(net.vector), TypeError, "net must be a Network; got ndarray"),
    "lr below 0": (lambda net: optim.Adam(net, lr=-1.0), ValueError, "lr must be at least 0 and finite; got -1.0"),
    "lr infinite": (lambda net: optim.SGD(net, lr=math.inf), ValueError, "lr must be at least 0 and finite; got inf"),
    "lr no number": (lambda net: optim.SGD(net, lr="0.1"), TypeError, "lr must be a number; got '0.1'"),
    "lr true": (lambda net: optim.SGD(net, lr=True), TypeError, "lr must be a number; got True"),
    "lr set to NaN": (lambda net: setattr(optim.SGD(net), "lr", math.nan), ValueError, "lr must be .*; got nan"),
    "beta 1": (lambda net: optim.AdamW(net, betas=(0.9, 1)), ValueError, r"betas\[1\] must be .* below 1; got 1"),
    "one beta": (lambda net: optim.Adam(net, betas=0.9), TypeError, "betas must be two numbers; got 0.9"),
    "eps 0": (lambda net: optim.Adam(net, eps=0), ValueError, "eps must be above 0 and finite; got 0"),
    "decay below 0": (lambda net: optim.AdamW(net, weight_decay=-1), ValueError, "weight_decay must be at least 0"),
    "momentum below 0": (lambda net: optim.SGD(net, momentum=-1), ValueError, "momentum must be at least 0"),
    "nesterov alone": (lambda net: optim.SGD(net, nesterov=True), ValueError, "nesterov needs a momentum above 0"),
    "nesterov a number": (lambda net: optim.SGD(net, nesterov=1), TypeError, "nesterov must be True or False; got 1"),
    "max_norm NaN": (lambda net: optim.clip_grad_norm(net, math.nan), ValueError, "max_norm must be .*; got nan"),
    "norm of no net": (lambda net: optim.clip_grad_norm(net.vector, 1.0), TypeError, "net must be a Network"),
    "value below 0": (lambda net: optim.clip_grad_value(net, -0.5), ValueError, "value must be at least 0"),
    "values of no net": (
        lambda net: optim.clip_grad_value(None, 0.5),
        TypeError,
        "net must be a Network; got NoneType",
    ),
    "schedule of a net": (lambda net: optim.StepLR(net, 2), TypeError, "optimizer must be Adam, AdamW or SGD"),
    "step_size 0": (lambda net: optim.StepLR(optim.Adam(net), 0), ValueError, "step_size must be a positive integer"),
    "gamma below 0": (lambda net: optim.StepLR(optim.Adam(net), 1, -1), ValueError, "gamma must be at least 0"),
    "T_max 0.5": (
        lambda net: optim.CosineAnnealingLR(optim.Adam(net), 0.5),
        ValueError,
        "T_max must be a positive integer; got 0.5",
    ),
    "eta_min below 0": (
        lambda net: optim.CosineAnnealingLR(optim.Adam(net), 5, -1e-3),
        ValueError,
        "eta_min must be at least 0 and finite; got -0.001",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_a_bad_argument_is_named(call: Callable[[snn.Network], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(small_net())


# Clipping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_norm_is_brought_to_the_largest(dtype: str) -> None:
    net = small_net(dtype)
    fill_gradients(net, 0)
    before = all_gradients(net)
    norm = optim.clip_grad_norm(net, 1.5)
    assert norm == pytest.approx(np.linalg.norm(before.astype(np.float64)), rel=1e-14)  # another order of the sum
    # one rounding of the factor and one of the product
    np.testing.assert_allclose(all_gradients(net), before * (1.5 / (norm + 1e-6)), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("max_norm", [1e3, math.inf])
def test_a_norm_small_enough_changes_nothing(max_norm: float) -> None:
    net = small_net()
    fill_gradients(net, 0)
    before = all_gradients(net)
    assert optim.clip_grad_norm(net, max_norm) == pytest.approx(np.linalg.norm(before), rel=1e-14)
    np.testing.assert_array_equal(all_gradients(net), before)


def test_the_norm_of_float32_gradients_does_not_overflow() -> None:
    net = small_net("float32")
    fill_gradients(net, 0, scale=1e30)  # the squares would be infinite
    assert math.isfinite(optim.clip_grad_norm(net, 1.0))
    # float32: a rounding, and 1e-6 beside a norm of 1e31 is nothing
    assert np.linalg.norm(all_gradients(net).astype(np.float64)) == pytest.approx(1, rel=1e-6)


def test_a_gradient_that_is_nan_shows_in_the_norm_and_everywhere() -> None:
    net = small_net()
    fill_gradients(net, 0)
    net.gradients["2.bias"][1] = np.nan
    assert math.isnan(optim.clip_grad_norm(net, 1.0))
    assert np.isnan(all_gradients(net)).all()  # as torch has it: no step goes on with half of a gradient


@pytest.mark.compiled
@pytest.mark.usefixtures("_threads_as_before")
def test_threads_do_not_change_a_bit_of_what_is_clipped() -> None:
    results = []
    for threads in (1, 2, 3):
        snn.set_num_threads(threads)
        net = snn.Network(snn.Linear(700, 501), snn.RLeaky(beta=0.9, linear_features=501), num_steps=2)
        fill_gradients(net, 0)
        norm = optim.clip_grad_norm(net, 1.0)
        optim.clip_grad_value(net, 1e-3)
        results.append((norm, net.gradient_vector))
    for norm, gradients in results[1:]:
        assert norm == results[0][0]
        np.testing.assert_array_equal(gradients, results[0][1])


@pytest.mark.compiled
@every_optimizer
def test_clipping_and_a_step_allocate_no_arrays(make: Make) -> None:
    net = snn.Network(snn.RLeaky(beta=0.9, linear_features=100), num_steps=2)
    optimizer = make(net)

    def step() -> None:
        net.gradient_vector.fill(1)
        optim.clip_grad_norm(net, 1.0)
        optim.clip_grad_value(net, 1e-3)
        optimizer.step()

    step()  # compiles
    tracemalloc.start()
    try:
        for _ in range(3):
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < net.vector.nbytes / 4  # Python's own numbers and calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_clipped_as_numpy_does(dtype: str) -> None:
    net = small_net(dtype)
    fill_gradients(net, 0)
    net.gradients["2.bias"][:3] = np.inf, -np.inf, np.nan
    before = all_gradients(net)
    optim.clip_grad_value(net, 0.7)
    limit = np.asarray(0.7, dtype)
    np.testing.assert_array_equal(all_gradients(net), np.clip(before, -limit, limit))


# Schedules ----------------------------------------------------------------------------------------------------


def rates(schedule: optim.Schedule, epochs: int) -> list[float]:
    """The learning rate of each epoch."""
    found = []
    for _ in range(epochs):
        found.append(schedule.optimizer.lr)
        schedule.step()
    return found


def test_step_schedule_equals_torch() -> None:
    schedule = optim.StepLR(optim.Adam(small_net(), lr=0.05), step_size=3, gamma=0.2)
    # torch multiplies the rate it has each time; 1e-14: a rounding each
    assert rates(schedule, 8) == pytest.approx([0.05] * 3 + [0.01] * 3 + [0.002] * 2, rel=1e-14)


def test_cosine_schedule_equals_torch() -> None:
    schedule = optim.CosineAnnealingLR(optim.Adam(small_net(), lr=0.1), T_max=4, eta_min=0.02)
    half = math.sqrt(0.5)
    fall = [0.1, 0.02 + 0.04 * (1 + half), 0.06, 0.02 + 0.04 * (1 - half), 0.02]
    # torch goes from rate to rate; 1e-14: a rounding each. After T_max it rises again
    assert rates(schedule, 10) == pytest.approx([*fall, *fall[-2::-1], fall[1]], rel=1e-14)


def test_cosine_schedule_ends_at_zero_and_an_optimizer_takes_that() -> None:
    net = small_net()
    schedule = optim.CosineAnnealingLR(optim.SGD(net, lr=0.1), T_max=7)
    for _ in range(7):
        schedule.step()
    assert schedule.optimizer.lr == 0
    assert optim.SGD(net, lr=schedule.optimizer.lr).lr == 0


def test_a_schedule_sets_the_rate_that_the_step_takes() -> None:
    net = small_net()
    net.gradient_vector[:] = 1
    optimizer = optim.SGD(net, lr=1.0)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    schedule.step()
    before = net.vector.copy()
    optimizer.step()
    np.testing.assert_array_equal(net.vector, before - 0.5)


@pytest.mark.parametrize(
    "make", [lambda its: optim.StepLR(its, 2, 0.3), lambda its: optim.CosineAnnealingLR(its, 7)], ids=["step", "cosine"]
)
def test_a_schedule_goes_on_from_its_state(make: Callable[[optim.Optimizer], optim.Schedule]) -> None:
    whole = rates(make(optim.Adam(small_net(), lr=0.03)), 9)
    first = make(optim.Adam(small_net(), lr=0.03))
    begun = rates(first, 4)
    second = make(optim.Adam(small_net(), lr=0.5))
    second.load_state_dict(first.state_dict())
    assert begun + rates(second, 5) == whole


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (3, TypeError, "the schedule's state must be a mapping, as state_dict gives it; got 3"),
        ({"epochs": 1}, KeyError, "the schedule's state lacks base_lr; it has epochs"),
        ({"epochs": -1, "base_lr": 0.1}, ValueError, "epochs must be a count; got -1"),
        ({"epochs": 1, "base_lr": -0.1}, ValueError, "base_lr must be at least 0"),
        ({"epochs": 1, "base_lr": 0.1, "gamma": 1}, KeyError, "the schedule's state has gamma"),
    ],
)
def test_a_bad_state_of_a_schedule_is_refused(state: dict[str, float], error: type[Exception], message: str) -> None:
    schedule = optim.StepLR(optim.Adam(small_net(), lr=0.03), 2)
    with pytest.raises(error, match=message):
        schedule.load_state_dict(state)
    assert (schedule.epochs, schedule.base_lr, schedule.optimizer.lr) == (0, 0.03, 0.03)


@pytest.mark.compiled
def test_threads_change_shares_of_each_array_that_make_up_all() -> None:
    rng = np.random.default_rng(0)
    given, bounds, before = rng.random((4, 10_003)), np.array([0, 9_008, 9_024, 10_003]), snn.get_num_threads()
    factors, made = np.array([1e-2, 0.999, 0.1, 1e-3, 1e-8, 1.0, 0.0]), []
    try:
        for threads in (1, 2, 3):
            snn.set_num_threads(threads)
            made.append(given.copy())
            backend.load("cpu").adam(*made[-1], factors, bounds)
    finally:
        snn.set_num_threads(before)
    assert (made[0][0] != given[0]).all()
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])
