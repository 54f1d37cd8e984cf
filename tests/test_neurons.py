"""Leaky, RLeaky and their kernels against snnTorch's own numbers and the float64 reference."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import reference as ref
from golden_files import cases, load
from reference import relative_error
from targets import moved, on_every_target, on_host

import snnumba as snn
from snnumba import surrogate

# float64: the same sums in another order. float32: 2^-24 a rounding, sums of up to a hundred terms over 12 steps
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def linear_layer(beta: Any, weight: np.ndarray, bias: np.ndarray, dtype: str = "float64", **options: Any) -> snn.RLeaky:
    """A layer with these weights."""
    layer = snn.RLeaky(beta, linear_features=len(bias), dtype=dtype, **options)
    state = layer.state_dict() | {"recurrent.weight": weight, "recurrent.bias": bias}
    layer.load_state_dict(state)
    return layer


def random_case(seed: int, steps: int = 7, batch: int = 5, n: int = 9) -> dict[str, np.ndarray]:
    """Everything a layer takes, random, in float64."""
    rng = np.random.default_rng(seed)
    return {
        "current": rng.normal(0.4, 0.5, (steps, batch, n)),
        "weight": rng.normal(0, 0.4, (n, n)),
        "bias": rng.normal(0, 0.1, n),
        "spk0": rng.normal(size=(batch, n)),
        "mem0": rng.normal(size=(batch, n)),
        "dspk": rng.normal(size=(steps, batch, n)),
        "dmem": rng.normal(size=(steps, batch, n)),
    }


@cache  # a custom surrogate is compiled into the kernels once
def custom(kind: str, a: float, b: float = 0.0) -> surrogate.Surrogate:
    """The custom surrogates of the golden cases."""
    functions: dict[str, Callable[[float], float]] = {
        "gaussian": lambda x: math.exp(-x * x / (2 * a * a)) / (a * math.sqrt(2 * math.pi)),
        "boxcar": lambda x: 1 / (2 * a) if abs(x) < a else 0.0,
        "two_sided": lambda x: a if x > 0 else b,
    }
    return surrogate.custom_surrogate(functions[kind])


def golden_surrogate(name: str, params: dict[str, Any], formula: str = "") -> surrogate.Surrogate:
    """The surrogate of a golden case."""
    return getattr(surrogate, name)(**params) if name in surrogate.KINDS else custom(*params.values())


def golden_layer(config: dict[str, Any], data: dict[str, Any], dtype: str) -> snn.Leaky | snn.RLeaky:
    """The layer of a golden case."""
    flags = ("learn_beta", "learn_threshold", "learn_recurrent", "learn_graded_spikes_factor")
    options = {name: config[name] for name in (*flags, "reset_mechanism", "reset_delay") if name in config}
    options |= {"threshold": data["threshold"], "dtype": dtype}
    options["spike_grad"] = golden_surrogate(**config["surrogate"])
    if config["layer"] == "Leaky":
        return snn.Leaky(data["beta"], graded_spikes_factor=data["graded_spikes_factor"], **options)
    if config["feedback"] == "linear":
        return linear_layer(data["beta"], data["weight"], data["bias"], **options)
    if config["feedback"] == "conv2d":
        size = config["kernel_size"]
        layer = snn.RLeaky(data["beta"], conv2d_channels=config["conv2d_channels"], kernel_size=size, **options)
        weights = {"recurrent.weight": data["weight"], "recurrent.bias": data["bias"]}
        layer.load_state_dict(layer.state_dict() | weights)
        return layer
    return snn.RLeaky(data["beta"], V=data["V"], all_to_all=False, **options)


@on_every_target
@pytest.mark.parametrize(("file", "case"), [(file, case) for file in ("rleaky.h5", "leaky.h5") for case in cases(file)])
def test_golden_layer(file: str, case: str, dtype: str, device: str) -> None:
    config, data = load(file, case)
    layer = moved(golden_layer(config, data, dtype), device)
    typed = {name: x.astype(dtype) for name, x in data.items()}
    state = {name: typed.get(name) for name in ("spk0", "mem0") if name in typed}
    spk, mem = layer.forward(typed["x"], **state)
    dcurrent = layer.backward(dspk=typed["gS"], dmem=typed["gU"])

    np.testing.assert_array_equal(on_host(spk) != 0, data["spk"] != 0)
    assert relative_error(on_host(spk), data["spk"]) < TOLERANCE[dtype]
    assert relative_error(on_host(mem), data["mem"]) < TOLERANCE[dtype]
    got = {"x": dcurrent, "spk0": layer.dspk0, "mem0": layer.dmem0}
    got |= {name.removeprefix("recurrent."): x for name, x in layer.gradients.items()}
    expected = {name.removeprefix("grad_"): x for name, x in data.items() if name.startswith("grad_")}
    assert set(expected) - {"x", "spk0", "mem0"} == set(got) - {"x", "spk0", "mem0"}
    for name, x in expected.items():
        assert relative_error(on_host(got[name]), x) < TOLERANCE[dtype], name


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("n", [1, 9, *(pytest.param(n, marks=pytest.mark.compiled) for n in (64, 65, 130))])
def test_forward_and_backward_equal_the_reference(n: int, reset: str, reset_delay: bool) -> None:
    case = random_case(n, batch=19, n=n)
    rng = np.random.default_rng(n)
    beta, threshold = rng.uniform(0.5, 1, n), rng.uniform(0.5, 1.5, n)
    options = {"reset_mechanism": reset, "reset_delay": reset_delay}
    layer = linear_layer(
        beta, case["weight"], case["bias"], threshold=threshold, learn_beta=True, learn_threshold=True, **options
    )
    spk, mem = layer.forward(case["current"], case["spk0"], case["mem0"])
    dcurrent = layer.backward(case["dspk"], case["dmem"])

    inputs = {name: case[name] for name in ("weight", "bias", "spk0", "mem0")}
    spk_ref, mem_ref, tape = ref.rleaky_forward(case["current"], beta, threshold, **inputs, **options)
    expected = ref.rleaky_backward(tape, case["dspk"], case["dmem"])
    np.testing.assert_array_equal(spk, spk_ref)
    assert 0 < spk.mean() < 1
    assert relative_error(mem, mem_ref) < 1e-12  # sums in another order, over 7 steps
    got = {"current": dcurrent, "spk0": layer.dspk0, "mem0": layer.dmem0}
    got |= {name.removeprefix("recurrent."): x for name, x in layer.gradients.items()}
    assert got.keys() == expected.keys()
    for name in expected:
        assert relative_error(got[name], expected[name]) < 1e-11, name


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("shape", [(1,), (65,), (3, 5, 6)])
@pytest.mark.parametrize("kind", ["Leaky", "one-to-one"])
def test_neurons_of_any_shape_equal_the_reference(
    kind: str, shape: tuple[int, ...], reset: str, reset_delay: bool
) -> None:
    rng = np.random.default_rng(len(shape))
    per_channel = shape[:1] + (1,) * (len(shape) - 1)
    beta, threshold = rng.uniform(0.5, 1, per_channel), rng.uniform(0.5, 1.5, shape)
    factor = rng.normal(size=per_channel)  # V or g
    current, dspk, dmem = (rng.normal(0.4, 0.7, (6, 18, *shape)) for _ in range(3))
    mem0 = rng.normal(size=current.shape[1:])
    common: dict[str, Any] = {"reset_mechanism": reset, "reset_delay": reset_delay}
    learned: dict[str, Any] = {"threshold": threshold, "learn_beta": True, "learn_threshold": True, "dtype": "float64"}
    layer: snn.Leaky | snn.RLeaky
    if kind == "Leaky":
        learned |= {"graded_spikes_factor": factor, "learn_graded_spikes_factor": True}
        layer = snn.Leaky(beta, **learned, **common)
        spk_ref, mem_ref, tape = ref.leaky_forward(
            current, beta, threshold, graded_spikes_factor=factor, mem0=mem0, **common
        )
    else:
        layer = snn.RLeaky(beta, factor, False, **learned, **common)
        spk_ref, mem_ref, tape = ref.rleaky_forward(current, beta, threshold, V=factor, mem0=mem0, **common)
    spk, mem = layer.forward(current, mem0=mem0)
    dcurrent = layer.backward(dspk, dmem)
    expected = ref.rleaky_backward(tape, dspk, dmem)
    assert 0 < (spk != 0).mean() < 1
    np.testing.assert_array_equal(spk, spk_ref)
    assert relative_error(mem, mem_ref) < 1e-12  # sums in another order, over 6 steps
    got = {"current": dcurrent, "mem0": layer.dmem0} | layer.gradients
    for name in got:
        assert relative_error(got[name], expected[name]) < 1e-11, name
    assert {"beta", "threshold"} < got.keys()


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_float32_is_exact_on_dyadic_inputs(reset: str) -> None:
    """Multiples of 1/128 and beta = 1/2 over 4 steps need at most 20 bits: float32 rounds nothing."""
    rng = np.random.default_rng(0)
    current, weight, bias = (rng.integers(-128, 128, shape) / 128 for shape in ((4, 3, 70), (70, 70), 70))
    layer = linear_layer(0.5, weight / 8, bias, "float32", reset_mechanism=reset)
    spk, mem = layer.forward(current.astype(np.float32))
    spk_ref, mem_ref, _ = ref.rleaky_forward(current, 0.5, 1.0, weight=weight / 8, bias=bias, reset_mechanism=reset)
    np.testing.assert_array_equal(spk, spk_ref)
    np.testing.assert_array_equal(mem, mem_ref)
    assert 0 < spk.mean() < 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n", "batch"), [(3, 1), (8, 5), (16, 21), (64, 3), (128, 21), (256, 3), (256, 17)])
def test_steps_in_registers_are_those_of_the_reference(n: int, batch: int, dtype: str) -> None:
    rng = np.random.default_rng(n)  # multiples of 1/1024: few enough bits for sums to be exact
    current, weight, bias = (rng.integers(-64, 96, shape) / 64 for shape in ((5, batch, n), (n, n), n))
    layer = linear_layer(0.5, weight / 16, bias, dtype)
    spk, mem = layer.forward(current.astype(dtype))
    spk_ref, mem_ref, _ = ref.rleaky_forward(current, 0.5, weight=weight / 16, bias=bias)
    np.testing.assert_array_equal(spk, spk_ref)
    np.testing.assert_array_equal(mem, mem_ref)
    assert 0 < spk.mean() < 1


def test_a_membrane_exactly_on_the_threshold_does_not_spike() -> None:
    layer = linear_layer(1.0, np.zeros((2, 2)), np.zeros(2))
    spk, _ = layer.forward(np.array([[0.5, 0.5], [0.5, 0.5 + 2**-52]]))
    np.testing.assert_array_equal(spk, [[0, 0], [0, 1]])


def test_feedback_uses_the_previous_spike_and_goes_from_column_to_row() -> None:
    weight = np.array([[0.0, 0.25], [0.0, 0.0]])  # weight[0, 1]: from neuron 1 to neuron 0, as in torch
    layer = linear_layer(0.0, weight, np.zeros(2))
    _, mem = layer.forward(np.array([[0.0, 2.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(mem, [[0, 2], [0.25, -1]])


def test_unbatched_arrays_give_what_a_batch_of_one_gives() -> None:
    case = random_case(3, batch=1)
    layer = linear_layer(0.9, case["weight"], case["bias"])
    batched = layer.forward(case["current"], case["spk0"], case["mem0"])
    dcurrent = layer.backward(case["dspk"])
    states = layer.dspk0, layer.dmem0
    alone = layer.forward(case["current"][:, 0], case["spk0"][0], case["mem0"][0])
    for x, y in zip(batched, alone, strict=True):
        np.testing.assert_array_equal(x[:, 0], y)
    np.testing.assert_array_equal(dcurrent[:, 0], layer.backward(case["dspk"][:, 0]))
    for x, y in zip(states, (layer.dspk0, layer.dmem0), strict=True):
        np.testing.assert_array_equal(x[0], y)


def test_backward_of_a_sum_is_the_sum_of_the_backwards() -> None:
    case = random_case(4)
    layer = linear_layer(0.9, case["weight"], case["bias"])
    layer.forward(case["current"])
    both = layer.backward(case["dspk"], case["dmem"])
    parts = layer.backward(case["dspk"]) + layer.backward(dmem=case["dmem"])
    assert relative_error(parts, both) < 1e-12  # one rounding a sum


def test_a_run_can_be_cut_in_two_with_the_state_carried() -> None:
    case = random_case(5)
    layer = linear_layer(0.9, case["weight"], case["bias"])
    spk, mem = layer.forward(case["current"])
    first = layer.forward(case["current"][:3])
    second = layer.forward(case["current"][3:], first[0][-1], first[1][-1])
    np.testing.assert_array_equal(np.concatenate([first[0], second[0]]), spk)
    # the first step adds the fed-back rows in the order of their numbers, the later ones four by four
    assert relative_error(np.concatenate([first[1], second[1]]), mem) < 1e-14


def test_what_was_returned_is_not_overwritten_while_it_is_kept() -> None:
    case = random_case(6)
    layer = linear_layer(0.9, case["weight"], case["bias"])
    kept = [layer.forward(case["current"] * k) for k in (1, 2, 3)]
    copies = [(spk.copy(), mem.copy()) for spk, mem in kept]
    gradients = [layer.backward(case["dspk"] * k) for k in (1, 2)]
    for got, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(got, copy)
    np.testing.assert_allclose(gradients[1], 2 * gradients[0])


def test_beta_outside_0_to_1_is_clipped_and_does_not_learn() -> None:
    case = random_case(7)
    layer = linear_layer(1.5, case["weight"], case["bias"], learn_beta=True)
    clipped = linear_layer(1.0, case["weight"], case["bias"], learn_beta=True)
    for x, y in zip(layer.forward(case["current"]), clipped.forward(case["current"]), strict=True):
        np.testing.assert_array_equal(x, y)
    layer.backward(case["dspk"])
    clipped.backward(case["dspk"])
    assert layer.gradients["beta"] == 0 != clipped.gradients["beta"]


def test_weights_are_uniform_within_one_over_the_root_of_fan_in() -> None:
    layer = snn.RLeaky(0.9, linear_features=400, seed=1)
    k = 1 / 20
    for x in layer.parameters.values():
        assert abs(x).max() <= k
        assert abs(x.mean()) < 4 * k / np.sqrt(3 * x.size)  # four standard errors
    assert layer.parameters["recurrent.weight"].std() == pytest.approx(k / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"linear_features": 0}, ValueError, "linear_features must be a positive integer; got 0"),
        ({"linear_features": 2.5}, ValueError, "linear_features"),
        ({"beta": [0.5, 0.5]}, ValueError, r"beta of shape \(2,\) does not fit neurons of shape \(3,\)"),
        ({"beta": "high"}, TypeError, "beta must be a number or an array of numbers; got 'high'"),
        ({"beta": float("nan")}, ValueError, "beta must be finite"),
        ({"threshold": [[1.0]]}, ValueError, "threshold"),
        ({"reset_mechanism": "half"}, ValueError, "reset_mechanism must be one of subtract, zero, none; got 'half'"),
        ({"spike_grad": abs}, TypeError, "spike_grad"),
        (
            {"spike_grad": surrogate.atan(), "surrogate_disable": True},
            ValueError,
            "spike_grad=atan and surrogate_disable",
        ),
        ({"all_to_all": False}, ValueError, "all_to_all=False and linear_features=3 contradict each other"),
        ({"linear_features": None}, ValueError, "must be given, or all_to_all=False; got none of them"),
        ({"conv2d_channels": 2}, ValueError, "linear_features=3 and conv2d_channels=2 contradict each other"),
        ({"linear_features": None, "conv2d_channels": 2}, ValueError, "must be given.*; got conv2d_channels"),
        (
            {"linear_features": None, "conv2d_channels": 2, "kernel_size": 4},
            ValueError,
            "kernel_size must be an odd int or a pair of them; got 4",
        ),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, or None; got -1"),
        ({"reset_mechanism": [1]}, ValueError, r"reset_mechanism must be one of .*; got \[1\]"),
        ({"dtype": "float16"}, ValueError, 'dtype must be "float32" or "float64"; got \'float16\''),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        snn.RLeaky(**{"beta": 0.9, "linear_features": 3} | arguments)


@pytest.mark.parametrize(
    ("current", "error", "message"),
    [
        (np.zeros((4, 2, 3)), TypeError, "current must be float32, the dtype of the layer; got float64"),
        (np.zeros((4, 2, 5), np.float32), ValueError, r"current must be \(T, B, 3\); got \(4, 2, 5\)"),
        (np.zeros((4, 5), np.float32), ValueError, r"current must be \(T, 3\); got \(4, 5\)"),
        (np.zeros(3, np.float32), ValueError, r"current must be \(T, 3\); got \(3,\)"),
        (np.zeros((0, 2, 3), np.float32), ValueError, "current must not be empty"),
        ([[0.0] * 3], TypeError, "current must be a NumPy array; got list"),
        ([[0.0] * 3, [0.0]], TypeError, "current must be a NumPy array; got list"),
    ],
)
def test_a_wrong_current_is_refused(current: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        snn.RLeaky(0.9, linear_features=3).forward(current)


def test_a_wrong_gradient_or_state_is_refused() -> None:
    layer = snn.RLeaky(0.9, linear_features=3)
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        layer.backward()
    layer.forward(np.zeros((4, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"dspk must be \(4, 2, 3\); got \(4, 1, 3\)"):
        layer.backward(dspk=np.zeros((4, 1, 3), np.float32))
    with pytest.raises(ValueError, match=r"mem0 must be \(2, 3\)"):
        layer.forward(np.zeros((4, 2, 3), np.float32), mem0=np.zeros((3, 3), np.float32))


def test_a_state_that_does_not_fit_is_refused_before_anything_changes() -> None:
    layer = snn.RLeaky(0.9, linear_features=3, seed=0)
    before = layer.state_dict()
    state = layer.state_dict()
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({**state, "extra": 1.0}, KeyError, "extra"),
        ({"beta": 0.5}, KeyError, "lacks threshold"),
        (
            {**state, "beta": 0.5, "recurrent.bias": np.zeros(4)},
            ValueError,
            r"recurrent.bias must be \(3,\); got \(4,\)",
        ),
        (
            {**state, "beta": 0.5, "recurrent.bias": np.full(3, np.nan)},
            ValueError,
            r"finite numbers; got .*nan.* at \(0,\)",
        ),
        ({**state, "beta": 0.5, "recurrent.bias": np.array([0, 1e300, 0])}, ValueError, r"got .*1e\+300.* at \(1,\)"),
    ]
    for bad, error, message in wrong:
        with pytest.raises(error, match=message):
            layer.load_state_dict(bad)
        for name, x in layer.state_dict().items():
            np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("shape", [(1,), (10,), (3, 32, 32), (2, 10)])
def test_step_by_step_gives_what_a_run_over_time_gives(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random((10, *shape))  # float64, as NumPy draws: converted
    for layer in (snn.RLeaky(beta=0.9, V=-0.5, all_to_all=False), snn.Leaky(beta=0.9)):
        expected = layer.forward(x.astype(np.float32))
        spk, mem = np.zeros(()), np.zeros(())
        if isinstance(layer, snn.RLeaky):
            spk, mem = layer.init_rleaky()
        else:
            mem = layer.init_leaky()
        for step in range(10):
            spk, mem = layer(x[step], spk, mem) if isinstance(layer, snn.RLeaky) else layer(x[step], mem)
            np.testing.assert_array_equal(spk, expected[0][step])
            np.testing.assert_array_equal(mem, expected[1][step])
        assert expected[0].any()


def test_setting_V_changes_the_next_step() -> None:
    layer = snn.RLeaky(beta=0.5, all_to_all=False)
    assert layer.V == 1
    spk, mem = layer(np.full(2, 2.0), *layer.init_rleaky())
    layer.V = -0.25
    _, mem = layer(np.zeros(2), spk, mem)
    np.testing.assert_array_equal(mem, [-0.25, -0.25])  # 0.5 * 2 - 0.25 * 1 - 1
    layer.V = [1.0, 2.0]  # from now on one per neuron
    _, mem = layer(np.zeros(2), np.ones(2), np.zeros(2))
    np.testing.assert_array_equal(mem, [1, 2])
    layer.backward(dmem=np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(layer.gradients["V"], [1, 1])
    snn.Network(layer, num_steps=2)
    with pytest.raises(ValueError, match=r"V must be a number or have the shape \(2,\); got \(3,\)"):
        layer.V = np.ones(3)
    frozen = snn.RLeaky(beta=0.5, all_to_all=False, learn_recurrent=False)
    net = snn.Network(frozen, num_steps=2)
    frozen.V = np.ones(3)
    assert snn.Network.from_config(net.config).state_dict()["0.V"].shape == (3,)
    with pytest.raises(AttributeError, match="has no V: its feedback is not one-to-one"):
        _ = snn.RLeaky(beta=0.5, linear_features=2).V


def test_an_array_that_does_not_fit_the_neurons_is_refused_when_their_shape_is_known() -> None:
    layer = snn.RLeaky(beta=0.5, V=np.ones((3, 1, 1)), all_to_all=False)
    layer.forward(np.zeros((2, 1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"V of shape \(3, 1, 1\) does not fit neurons of shape \(3,\)"):
        layer.forward(np.zeros((2, 1, 3), np.float32))


def test_surrogate_disable_lets_no_gradient_through_the_spike() -> None:
    layer = snn.Leaky(beta=0.9, surrogate_disable=True)
    spk, _ = layer.forward(np.full((5, 1, 2), 0.7, np.float32))
    assert spk.any()
    np.testing.assert_array_equal(layer.backward(dspk=np.ones_like(spk)), 0)


def test_a_net_of_leaky_and_one_to_one_layers_has_the_gradient_of_its_layers_in_turn() -> None:
    net = snn.Network(
        snn.Linear(6, 5),
        snn.Leaky(beta=0.9, graded_spikes_factor=0.5, learn_graded_spikes_factor=True),
        snn.RLeaky(beta=0.8, all_to_all=False),
        snn.Linear(5, 3),
        snn.Leaky(beta=0.7, reset_mechanism="zero"),
        num_steps=6,
        dtype="float64",
        seed=0,
    )
    rng = np.random.default_rng(1)
    x, dspk, dmem = rng.normal(size=(4, 6)) * 3, rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 4, 3))
    spk, mem = net.forward(x)
    dx = net.backward(dspk, dmem, input_gradient=True)

    state = net.state_dict()
    fc1 = ref.linear_forward(x, state["0.weight"], state["0.bias"])
    spk1, _, tape1 = ref.leaky_forward(np.broadcast_to(fc1, (6, 4, 5)), 0.9, graded_spikes_factor=0.5)
    spk2, _, tape2 = ref.rleaky_forward(spk1, 0.8, V=1.0)
    fc2 = ref.linear_forward(spk2, state["3.weight"], state["3.bias"])
    spk3, mem3, tape3 = ref.leaky_forward(fc2, 0.7, reset_mechanism="zero")
    d3 = ref.rleaky_backward(tape3, dspk, dmem)
    dfc2 = ref.linear_backward(d3["current"], spk2, state["3.weight"])
    d2 = ref.rleaky_backward(tape2, dfc2["x"])
    d1 = ref.rleaky_backward(tape1, d2["current"])
    dfc1 = ref.linear_backward(d1["current"], x, state["0.weight"])
    np.testing.assert_array_equal(spk, spk3)
    assert spk1.any()
    assert spk2.any()
    assert relative_error(mem, mem3) < 1e-12  # sums in another order
    expected = {
        "0.weight": dfc1["weight"],
        "0.bias": dfc1["bias"],
        "1.graded_spikes_factor": d1["graded_spikes_factor"],
        "2.V": d2["V"],
        "3.weight": dfc2["weight"],
        "3.bias": dfc2["bias"],
    }
    assert net.gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative_error(net.gradients[name], gradient) < 1e-11, name
    assert dx is not None
    assert relative_error(dx, dfc1["x"]) < 1e-11
    again = snn.Network.from_config(net.config)
    again.load_state_dict(state)
    np.testing.assert_array_equal(again.forward(x)[1], mem)


def test_a_layer_cannot_be_in_two_nets() -> None:
    layer = snn.RLeaky(beta=0.9, linear_features=4)
    with pytest.raises(ValueError, match=r"layer 1, .* is in the net twice"):
        snn.Network(layer, layer, num_steps=2)
    snn.Network(layer, num_steps=2)
    with pytest.raises(ValueError, match=r"layer 0, .* is in another net already"):
        snn.Network(layer, num_steps=2)


def test_layers_of_a_net_that_was_refused_can_be_used_in_another() -> None:
    first, second = snn.Linear(6, 5), snn.RLeaky(beta=0.9, linear_features=4, dtype="float32")
    with pytest.raises(ValueError, match="layer 1"):
        snn.Network(first, second, num_steps=2)
    with pytest.raises(ValueError, match=r"layer 0, .* is float32; the net is float64"):
        snn.Network(second, num_steps=2, dtype="float64")
    with pytest.raises(ValueError, match=r"layer 0, .* is float64; the net is float32"):
        snn.Network(snn.Leaky(0.9, dtype="float64"), num_steps=2)
    snn.Network(first, snn.RLeaky(beta=0.9, linear_features=5), num_steps=2)
    snn.Network(second, num_steps=2)


def test_layers_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer 1: RLeaky.* takes inputs of shape \(4,\); got \(5,\)"):
        snn.Network(snn.Linear(6, 5), snn.RLeaky(beta=0.9, linear_features=4), num_steps=2)
    with pytest.raises(ValueError, match="the last layer must be a spiking one"):
        snn.Network(snn.Linear(6, 5), num_steps=2)
