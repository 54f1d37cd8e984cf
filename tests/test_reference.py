"""The reference against snnTorch's own numbers, and its backward passes against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
from golden_files import cases, load
from reference import Array, Surrogate, relative_error

# snnTorch lifted to float64 sums in another order: 1e-13 was seen, training 2e-13
ROUNDING = 1e-10
# central differences of step 1e-6 in float64: cancellation is about 1e-16/1e-6, truncation 1e-12 times a
# third derivative, which for a slope of 25 is about 1e4
DIFFERENCES = 1e-6

RESETS = ("subtract", "zero", "none")
FEEDBACKS = ("one_to_one", "one_to_one_scalar", "linear", "conv2d")


def golden_surrogate(config: dict[str, Any]) -> Surrogate:
    name, params = config["surrogate"]["name"], dict(config["surrogate"]["params"])
    if name != "custom_surrogate":
        return getattr(ref, name)(**params)
    return {
        "gaussian": lambda sigma: Surrogate(lambda x: np.exp(-(x**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))),
        "boxcar": lambda width: Surrogate(lambda x: (abs(x) < width) / (2 * width)),
        "two_sided": lambda on, off: Surrogate(lambda x: np.where(x > 0, on, off)),
    }[params.pop("kind")](**params)


def present(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def assert_golden_gradients(got: dict[str, Array], data: dict[str, Any]) -> None:
    """Every grad_ dataset of the case, and at least one: what does not learn has none."""
    expected = {name.removeprefix("grad_"): d for name, d in data.items() if name.startswith("grad_")}
    assert expected, "the case has no gradient"
    for name, gradient in expected.items():
        assert relative_error(got[name], gradient) < ROUNDING, name


def replay_layer(file: str, case: str) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Run a golden layer case forward and back: outputs, gradients (current as "x"), and the case's data."""
    config, data = load(file, case)
    options = {name: config[name] for name in ("reset_mechanism", "reset_delay") if name in config}
    options |= present(data, "threshold", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "syn0", "mem0")
    options |= present(data, "beta", "graded_spikes_factor", "V", "weight", "bias", "spk0")
    surrogate = golden_surrogate(config)
    if file == "slstm.h5":
        spk, syn, mem, tape = ref.slstm_forward(data["x"], **options)
        gradients = ref.slstm_backward(tape, data["gS"], data["gC"], data["gU"], surrogate)
        return {"spk": spk, "syn": syn, "mem": mem}, gradients, data
    forward, backward = {
        "rleaky.h5": (ref.rleaky_forward, ref.rleaky_backward),
        "leaky.h5": (ref.leaky_forward, ref.leaky_backward),
    }[file]
    spk, mem, tape = forward(data["x"], **options)
    gradients = backward(tape, data["gS"], data["gU"], surrogate)
    return {"spk": spk, "mem": mem}, gradients | {"x": gradients["current"]}, data


LAYER_CASES = [(file, case) for file in ("rleaky.h5", "leaky.h5", "slstm.h5") for case in cases(file)]


@pytest.mark.parametrize(("file", "case"), LAYER_CASES)
def test_layer_forward_is_snntorchs(file: str, case: str) -> None:
    outputs, _, data = replay_layer(file, case)
    # equal spikes; a graded one is one product, the same in any order
    np.testing.assert_array_equal(outputs.pop("spk"), data["spk"])
    for name, got in outputs.items():
        assert relative_error(got, data[name]) < ROUNDING, name


@pytest.mark.parametrize(("file", "case"), LAYER_CASES)
def test_layer_backward_is_snntorchs(file: str, case: str) -> None:
    _, gradients, data = replay_layer(file, case)
    assert_golden_gradients(gradients, data)


@pytest.mark.parametrize("case", cases("losses.h5", lambda config: config["role"] != "metric"))
def test_loss_value_and_gradient_are_snntorchs(case: str) -> None:
    config, data = load("losses.h5", case)
    arguments = [data["targets"]] if "targets" in data else []
    if config["params"].get("time_var_targets"):  # labels a step there, a trajectory here
        arguments = [np.broadcast_to(data["effective_targets"][:, None], data["input"].shape)]
    value, gradient = getattr(ref, config["function"])(data["input"], *arguments, **config["params"])
    assert relative_error(value, data["value"]) < ROUNDING
    assert relative_error(gradient, data["grad"]) < ROUNDING


@pytest.mark.parametrize("case", cases("losses.h5", lambda config: config["role"] == "metric"))
def test_metric_is_snntorchs(case: str) -> None:
    config, data = load("losses.h5", case)
    got = getattr(ref, config["function"])(data["input"], data["targets"], **config["params"])
    assert got == data["value"]  # a ratio of counts: exact


@pytest.mark.parametrize("parameter", ["w", "b"])
@pytest.mark.parametrize("case", cases("adam.h5"))
def test_optimizer_path_is_torchs(case: str, parameter: str) -> None:
    config, data = load("adam.h5", case)
    step = {"Adam": ref.adam_step, "AdamW": ref.adamw_step, "SGD": ref.sgd_step}[config["optimizer"]]
    p, state, path = ref.float64(data[f"{parameter}_start"]), {}, []
    for gradient in data[f"{parameter}_grads"]:
        p = step(p, ref.float64(gradient), state, **config["params"])
        path.append(p)
    # torch in float32 rounds each of 50 steps: 2e-6 was seen
    tolerance = ROUNDING if config["dtype"] == "float64" else 1e-5
    assert relative_error(path, data[f"{parameter}_path"]) < tolerance


@pytest.fixture(scope="module")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    try:
        return ref.mnist_pixels()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("case", cases("training.h5", lambda config: config["dtype"] == "float64"))
def test_training_replays_snntorchs(case: str, mnist: tuple[np.ndarray, np.ndarray]) -> None:
    config, data = load("training.h5", case)
    images, labels = mnist
    rng = np.random.default_rng(config["init_seed"])
    parameters = {
        name: rng.uniform(-1 / np.sqrt(fan_in), 1 / np.sqrt(fan_in), shape)
        for name, shape, fan_in in config["init"]["order"]
    }
    for name in ("beta", "threshold"):
        if config[f"learn_{name}"]:
            parameters |= {f"{layer}.{name}": ref.float64(config[name]) for layer in ("rleaky1", "rleaky2")}
    assert {f"final/{name}" for name in parameters} == {name for name in data if name.startswith("final/")}
    batches = (data["indices"][step % 3] for step in range(config["steps"]))
    loss, settings = getattr(ref, config["loss"]["name"]), config["loss"]["params"]
    history = list(
        ref.train(
            parameters,
            ((images[i] / 255, labels[i]) for i in batches),
            config["T"],
            lambda output, y: loss(output, y, **settings),
            on=config["loss"]["on"],
            surrogate=golden_surrogate(config),
            adam=config["optimizer"]["params"],
            **{name: config[name] for name in ("beta", "threshold", "reset_mechanism", "reset_delay")},
        )
    )
    first, last = history[0], history[-1]
    np.testing.assert_array_equal([step.spk.sum(axis=0) for step in history], data["spike_counts"])
    np.testing.assert_array_equal(first.spk_hidden.sum(axis=0), data["hidden_spike_counts_step1"])
    assert [step.accuracy for step in history] == list(data["accuracy"])
    assert relative_error([step.spk_hidden.mean() for step in history], data["hidden_rate"]) < ROUNDING
    assert relative_error([step.loss for step in history], data["loss"]) < ROUNDING
    assert relative_error(first.mem, data["mem_out_step1"]) < ROUNDING
    for name in parameters:
        assert relative_error(first.gradients[name], data[f"grad/{name}"]) < ROUNDING, name
        assert relative_error(last.parameters[name], data[f"final/{name}"]) < ROUNDING, name


def numeric_gradient(f: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    """Central differences of f, an entry of x at a time."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (f(high) - f(low)) / (2 * step)
    return gradient


def assert_derivative(gradients: dict[str, Array], loss: Callable[..., float], inputs: dict[str, Array]) -> None:
    """One gradient for each input of the loss, and each its derivative."""
    assert gradients.keys() == inputs.keys()
    for name, x in inputs.items():
        numeric = numeric_gradient(lambda value, name=name: loss(**(inputs | {name: value})), x)
        assert relative_error(gradients[name], numeric) < DIFFERENCES, name


def lif_inputs(rng: np.random.Generator, feedback: str | None) -> dict[str, Array]:
    """Random current, state and parameters. The betas reach beyond [0, 1], where they are clipped."""
    shape = (2, 3, 2) if feedback == "conv2d" else (4,)
    inputs = {
        "current": rng.normal(0.6, 0.8, (5, 2, *shape)),
        "mem0": rng.normal(0.5, 0.7, (2, *shape)),
        "beta": rng.permuted(np.linspace(-0.2, 1.3, np.prod(shape))).reshape(shape),
        "threshold": rng.uniform(0.3, 0.9, (*shape[:1], *(1 for _ in shape[1:]))),
    }
    if feedback is None:
        return inputs | {"graded_spikes_factor": rng.uniform(0.5, 2, shape)}
    return (
        inputs
        | {
            "one_to_one": {"V": rng.normal(size=shape)},
            "one_to_one_scalar": {"V": rng.normal(size=())},
            "linear": {"weight": rng.normal(size=(4, 4)), "bias": rng.normal(size=4)},
            "conv2d": {"weight": rng.normal(size=(2, 2, 3, 1)), "bias": rng.normal(size=2)},
        }[feedback]
        | {"spk0": rng.uniform(size=(2, *shape))}
    )


def check_lif_derivative(
    inputs: dict[str, Array], surrogate: Surrogate, rng: np.random.Generator, **options: Any
) -> None:
    """rleaky_backward against differences of the smooth net: the primitive for the spike, R held."""
    dspk, dmem = rng.normal(size=(2, *inputs["current"].shape))

    def forward(**inputs: Array) -> tuple[Array, Array, ref.Tape]:
        return ref.rleaky_forward(**inputs, **options, spike=surrogate.primitive)

    _, _, tape = forward(**inputs)
    assert 0 < tape.R.mean() < 1, "no reset, or nothing else: the case checks too little"
    options["reset"] = tape.R

    def loss(**inputs: Array) -> float:
        spk, mem, _ = forward(**inputs)
        return float(np.sum(dspk * spk) + np.sum(dmem * mem))

    assert_derivative(ref.rleaky_backward(tape, dspk, dmem, surrogate), loss, inputs)


@pytest.mark.parametrize("reset_delay", [True, False], ids=["delayed", "undelayed"])
@pytest.mark.parametrize("reset_mechanism", RESETS)
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_rleaky_backward_is_the_derivative(feedback: str, reset_mechanism: str, reset_delay: bool) -> None:
    rng = np.random.default_rng(0)
    options = {"reset_mechanism": reset_mechanism, "reset_delay": reset_delay}
    check_lif_derivative(lif_inputs(rng, feedback), ref.atan(), rng, **options)


@pytest.mark.parametrize("reset_delay", [True, False], ids=["delayed", "undelayed"])
@pytest.mark.parametrize("reset_mechanism", RESETS)
def test_leaky_backward_is_the_derivative(reset_mechanism: str, reset_delay: bool) -> None:
    rng = np.random.default_rng(1)
    options = {"reset_mechanism": reset_mechanism, "reset_delay": reset_delay}
    check_lif_derivative(lif_inputs(rng, None), ref.atan(), rng, **options)


@pytest.mark.parametrize("feedback", ["linear", "conv2d", None])
def test_inhibited_backward_is_the_derivative(feedback: str | None) -> None:
    rng = np.random.default_rng(2)
    check_lif_derivative(lif_inputs(rng, feedback), ref.atan(), rng, inhibition=True)


SURROGATES = {
    "atan": ref.atan(),
    "atan steep": ref.atan(5),
    "fast_sigmoid": ref.fast_sigmoid(),
    "sigmoid": ref.sigmoid(),
    "straight_through_estimator": ref.straight_through_estimator(),
    "triangular": ref.triangular(0.5),
    "spike_rate_escape": ref.spike_rate_escape(2, 1.5),
    "SFS": ref.SFS(5, 0.2),
    "SFS below": ref.SFS(25, -0.4),
    "LSO": ref.LSO(),
    "surrogate_disable": ref.surrogate_disable(),
    "custom_surrogate": ref.custom_surrogate(np.cos, np.sin),
}
by_surrogate = pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)


@by_surrogate
def test_surrogate_is_the_derivative_of_its_primitive(surrogate: Surrogate) -> None:
    x = np.random.default_rng(3).uniform(-2, 2, 50)  # none within a step of a kink
    numeric = (surrogate.primitive(x + 1e-6) - surrogate.primitive(x - 1e-6)) / 2e-6
    assert relative_error(surrogate(x), numeric) < DIFFERENCES


@by_surrogate
def test_rleaky_backward_is_the_derivative_with_any_surrogate(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(4)
    check_lif_derivative(lif_inputs(rng, "linear"), surrogate, rng, reset_delay=False)


def test_sigmoid_is_finite_far_from_threshold() -> None:
    np.testing.assert_array_equal(ref.sigmoid(25)(np.array([-1e6, 1e6])), 0)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("reset_mechanism", RESETS)
def test_slstm_backward_is_the_derivative(reset_mechanism: str, bias: bool) -> None:
    rng, surrogate = np.random.default_rng(5), ref.atan()
    T, B, n, H = 4, 2, 3, 2
    inputs = {
        "x": rng.normal(size=(T, B, n)),
        "weight_ih": rng.normal(size=(4 * H, n)),
        "weight_hh": rng.normal(size=(4 * H, H)),
        "syn0": rng.normal(size=(B, H)),
        "mem0": rng.normal(size=(B, H)),
        "threshold": rng.uniform(0, 0.1, H),
    }
    if bias:
        inputs |= {"bias_ih": rng.normal(size=4 * H), "bias_hh": rng.normal(size=4 * H)}
    options: dict[str, Any] = {"reset_mechanism": reset_mechanism, "spike": surrogate.primitive}
    *_, tape = ref.slstm_forward(**inputs, **options)
    assert 0 < tape.R.mean() < 1, "no reset, or nothing else: the case checks too little"
    options["reset"] = tape.R
    upstream = rng.normal(size=(3, T, B, H))

    def loss(**inputs: Array) -> float:
        *outputs, _ = ref.slstm_forward(**inputs, **options)
        return float(np.sum(upstream * outputs))

    assert_derivative(ref.slstm_backward(tape, *upstream, surrogate), loss, inputs)


LABELS = np.array([1, 0, 3])
LOSSES = {
    "mse_count": lambda x: ref.mse_count_loss(x, LABELS, 0.8, 0.2),
    "mse_count population": lambda x: ref.mse_count_loss(x, LABELS % 2, 0.8, 0.2, True, 2),
    "mse_membrane": lambda x: ref.mse_membrane_loss(x, LABELS, False, 1.05, 0.2),
    "mse_membrane trajectory": lambda x: ref.mse_membrane_loss(x, np.cos(np.arange(60)).reshape(5, 3, 4), True),
    "ce_rate": lambda x: ref.ce_rate_loss(x, LABELS),
    "ce_count": lambda x: ref.ce_count_loss(x, LABELS),
    "ce_count population": lambda x: ref.ce_count_loss(x, LABELS % 2, True, 2),
    "ce_max_membrane": lambda x: ref.ce_max_membrane_loss(x, LABELS),
    "l1_rate_sparsity": lambda x: ref.l1_rate_sparsity(x, 0.01),
    # the temporal losses, as far as they have a derivative: of the first-spike times
    "mse_of_times": lambda x: ref.mse_of_times(x[0], np.full((3, 4), 2.5), 5),
    "mse_of_times tolerance": lambda x: ref.mse_of_times(x[0], np.full((3, 4), 0.5), 5, 0.7),
    "ce_of_times negate": lambda x: ref.ce_of_times(x[0], LABELS),
    "ce_of_times reciprocal": lambda x: ref.ce_of_times(abs(x[0]), LABELS, "reciprocal"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_is_the_derivative(name: str) -> None:
    x = np.random.default_rng(6).uniform(size=(5, 3, 4))
    _, gradient = LOSSES[name](x)
    numeric = numeric_gradient(lambda value: LOSSES[name](value)[0], x)
    assert relative_error(gradient, numeric[0] if gradient.ndim == 2 else numeric) < DIFFERENCES


def test_first_spike_gradient_goes_to_the_first_spike_alone() -> None:
    spk = np.zeros((4, 1, 2))
    spk[[1, 3], 0, 0] = 1  # the first output spikes twice, the second is silent
    np.testing.assert_array_equal(ref.first_spike_times(spk), [[1, 3]])
    spread = ref.spread_times(np.array([[2.0, 5.0]]), ref.first_spike_times(spk), 4)
    np.testing.assert_array_equal(spread[:, 0], [[0, 0], [-2, 0], [0, 0], [0, -5]])


def test_linear_backward_is_the_derivative() -> None:
    rng = np.random.default_rng(7)
    inputs = {"x": rng.normal(size=(2, 3)), "weight": rng.normal(size=(4, 3)), "bias": rng.normal(size=4)}
    dy = rng.normal(size=(2, 4))
    gradients = ref.linear_backward(dy, inputs["x"], inputs["weight"])
    assert_derivative(gradients, lambda **inputs: np.sum(dy * ref.linear_forward(**inputs)), inputs)


def test_input_constant_in_time_has_the_gradients_of_its_copies() -> None:
    rng = np.random.default_rng(8)
    x, weight, dy = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=(5, 2, 4))
    once = ref.linear_backward(dy, x, weight)
    copies = ref.linear_backward(dy, np.broadcast_to(x, (5, 2, 3)), weight)
    copies["x"] = copies["x"].sum(axis=0)
    for name, gradient in once.items():
        assert relative_error(gradient, copies[name]) < ROUNDING, name


def test_no_upstream_gradient_counts_as_zero() -> None:
    rng = np.random.default_rng(9)
    *_, tape = ref.rleaky_forward(**lif_inputs(rng, "linear"))
    d, zero = rng.normal(size=tape.M.shape), np.zeros(tape.M.shape)
    for given, filled in [((d, None), (d, zero)), ((None, d), (zero, d))]:
        for name, gradient in ref.rleaky_backward(tape, *given).items():
            np.testing.assert_array_equal(gradient, ref.rleaky_backward(tape, *filled)[name])


def test_inhibition_lets_only_the_largest_membrane_spike() -> None:
    current = np.random.default_rng(10).uniform(0, 1, (6, 4, 5))
    inhibited, mem, _ = ref.leaky_forward(current, 0.9, inhibition=True)
    free, same_mem, _ = ref.leaky_forward(current, 0.9)
    np.testing.assert_array_equal(mem, same_mem)  # R is of the membrane: no feedback, no difference
    assert (free.sum(axis=2) > 1).any()
    np.testing.assert_array_equal(inhibited, free * (mem == mem.max(axis=2, keepdims=True)))


def test_a_membrane_at_threshold_does_not_spike() -> None:
    spk, _, tape = ref.rleaky_forward(np.ones((1, 1)), 1.0, 1.0, V=1.0, mem0=np.zeros(1))
    assert spk == 0
    assert not tape.R.any()


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_unbatched_is_a_batch_of_one(feedback: str) -> None:
    rng = np.random.default_rng(11)
    inputs = lif_inputs(rng, feedback)
    batch = {"current": 1, "mem0": 0, "spk0": 0}
    one = inputs | {name: np.take(inputs[name], [0], axis) for name, axis in batch.items()}
    bare = inputs | {name: np.take(inputs[name], 0, axis) for name, axis in batch.items()}
    spk, mem, _ = ref.rleaky_forward(**one, inhibition=True)
    spk_bare, mem_bare, _ = ref.rleaky_forward(**bare, inhibition=True)
    np.testing.assert_array_equal(spk_bare, spk[:, 0])
    np.testing.assert_array_equal(mem_bare, mem[:, 0])
