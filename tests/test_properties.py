"""Any configuration of a layer, drawn at random: equal to the reference, and that to finite differences.

Hypothesis draws options, shapes and a seed; the numbers are NumPy's, normal or uniform, so that no membrane lies on a
threshold but where a test puts it there.
"""

from typing import Any

import numpy as np
import pytest
import reference as ref
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import relative_error

import snnumba as snn
from snnumba import functional as SF
from snnumba import surrogate

pytestmark = pytest.mark.compiled

# float64 sums in another order over at most 7 steps; the gradient of a shared parameter is a sum that may cancel
ROUNDING = 1e-9
# central differences of step 1e-6 along one direction: rounding is 1e-16 / 1e-6 times a loss of up to 1e3, and
# truncation 1e-12 times a third derivative, of gentle surrogates: steep ones in a chain of 7 steps have a huge one
DIFFERENCES = 1e-5

SURROGATES = {
    "atan": {"alpha": (0.5, 4.0)},
    "fast_sigmoid": {"slope": (1.0, 30.0)},
    "sigmoid": {"slope": (1.0, 30.0)},
    "straight_through_estimator": {},
    "triangular": {"threshold": (0.5, 2.0)},
    "spike_rate_escape": {"beta": (0.5, 2.0), "slope": (1.0, 30.0)},
    "SFS": {"slope": (1.0, 30.0), "B": (-0.5, 0.5)},
    "LSO": {"slope": (0.0, 1.0)},
}
SMOOTH = ("atan", "sigmoid")

numbers = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def surrogates(draw: st.DrawFn, names: tuple[str, ...] = tuple(SURROGATES)) -> tuple[str, dict[str, float]]:
    """The name of a surrogate, and its arguments."""
    name = draw(st.sampled_from(names))
    return name, {key: draw(st.floats(*limits)) for key, limits in SURROGATES[name].items()}


@st.composite
def neurons(draw: st.DrawFn, names: tuple[str, ...] = tuple(SURROGATES)) -> dict[str, Any]:
    """A configuration of Leaky or RLeaky, and the numbers to run it on."""
    feedback = draw(st.sampled_from([None, "one_to_one", "linear", "conv2d"]))
    sizes = st.integers(1, 5)
    flat = feedback == "linear" or (feedback != "conv2d" and draw(st.booleans()))
    n = draw(st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 70])))
    shape = (n,) if flat else (draw(st.integers(1, 3)), draw(sizes), draw(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    per_channel = (shape[0],) + (1,) * (len(shape) - 1)
    spread = {name: draw(st.sampled_from([(), per_channel, shape])) for name in ("beta", "threshold", "V", "g")}
    steps, batch = draw(st.integers(1, 7)), draw(st.sampled_from([1, 2, 5, 17, 33]))
    whole = (steps, batch, *shape)
    case: dict[str, Any] = {
        "feedback": feedback,
        "shape": shape,
        "surrogate": draw(surrogates(names)),
        "beta": rng.uniform(-0.2, 1.2, spread["beta"]),
        "threshold": rng.uniform(-0.5, 1.5, spread["threshold"]),
        "reset": draw(st.sampled_from(["subtract", "zero", "none"])),
        "delay": draw(st.booleans()),
        "inhibition": draw(st.booleans()),
        "quant": draw(st.sampled_from([None, SF.quant.state_quant(3, lower_limit=1.0, upper_limit=1.0)])),
        "current": rng.normal(0.4, 0.8, whole),
        "dspk": rng.normal(size=whole) if draw(st.booleans()) else None,
        "dmem": rng.normal(size=whole),
        "mem0": rng.normal(size=whole[1:]) if draw(st.booleans()) else None,
        "spk0": rng.normal(size=whole[1:]) if feedback and draw(st.booleans()) else None,
        "weights": {},
    }
    if feedback == "one_to_one":
        case["weights"] = {"V": rng.normal(0, 0.7, spread["V"])}
    if feedback == "linear":
        case["weights"] = {"weight": rng.normal(0, 0.5, (n, n)), "bias": rng.normal(0, 0.3, n)}
    if feedback == "conv2d":
        kernel = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3, 5]))
        weight = rng.normal(0, 0.4, (shape[0], shape[0], *kernel))
        case["weights"] = {"weight": weight, "bias": rng.normal(0, 0.3, shape[0])}
    if feedback is None:
        case["g"] = rng.normal(size=spread["g"])
    return case


def layer_of(case: dict[str, Any]) -> snn.Leaky | snn.RLeaky:
    """The layer of a case."""
    name, arguments = case["surrogate"]
    options: dict[str, Any] = {
        "threshold": case["threshold"],
        "spike_grad": getattr(surrogate, name)(**arguments),
        "inhibition": case["inhibition"],
        "learn_beta": True,
        "learn_threshold": True,
        "reset_mechanism": case["reset"],
        "state_quant": case["quant"] or False,
        "reset_delay": case["delay"],
        "dtype": "float64",
    }
    weights = case["weights"]
    if case["feedback"] is None:
        return snn.Leaky(case["beta"], graded_spikes_factor=case["g"], learn_graded_spikes_factor=True, **options)
    if case["feedback"] == "one_to_one":
        return snn.RLeaky(case["beta"], weights["V"], False, **options)
    if case["feedback"] == "linear":
        layer = snn.RLeaky(case["beta"], linear_features=case["shape"][0], **options)
    else:
        kernel = weights["weight"].shape[2:]
        layer = snn.RLeaky(case["beta"], conv2d_channels=case["shape"][0], kernel_size=kernel, **options)
    layer.load_state_dict(layer.state_dict() | {f"recurrent.{name}": x for name, x in weights.items()})
    return layer


def state_of(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The initial state that is given."""
    return {name: case[name] for name in ("spk0", "mem0") if case[name] is not None}


def reference_of(case: dict[str, Any], **changed: Any) -> tuple[np.ndarray, np.ndarray, ref.Tape]:
    """The reference's forward pass of a case, some of its numbers changed."""
    graded = {"graded_spikes_factor": case["g"]} if "g" in case else {}
    inputs = {"current": case["current"], "beta": case["beta"], "threshold": case["threshold"], **case["weights"]}
    inputs |= state_of(case) | graded
    return ref.rleaky_forward(
        reset_mechanism=case["reset"],
        reset_delay=case["delay"],
        inhibition=case["inhibition"],
        levels=None if case["quant"] is None else np.array(case["quant"].levels),
        **(inputs | changed),
    )


@numbers
@given(neurons())
def test_any_neurons_equal_the_reference(case: dict[str, Any]) -> None:
    layer = layer_of(case)
    spk, mem = layer.forward(case["current"], **state_of(case))
    dcurrent = layer.backward(case["dspk"], case["dmem"])
    spk_ref, mem_ref, tape = reference_of(case)
    name, arguments = case["surrogate"]
    expected = ref.rleaky_backward(tape, case["dspk"], case["dmem"], getattr(ref, name)(**arguments))
    np.testing.assert_array_equal(spk, spk_ref)
    assert relative_error(mem, mem_ref) < ROUNDING
    got = {"current": dcurrent, "mem0": layer.dmem0}
    got |= {"spk0": layer.dspk0} if case["feedback"] else {}
    got |= {name.removeprefix("recurrent."): x for name, x in layer.gradients.items()}
    assert got.keys() == expected.keys()
    for name in expected:
        assert relative_error(got[name], expected[name]) < ROUNDING, name


@numbers
@given(neurons(SMOOTH), st.integers(0, 2**32 - 1))
def test_the_reference_is_the_derivative_of_its_smooth_net(case: dict[str, Any], seed: int) -> None:
    """Along one random direction in all inputs; the spike is the surrogate's primitive, the reset that of the run."""
    name, arguments = case["surrogate"]
    case["surrogate"] = name, {key: min(value, 2.0) for key, value in arguments.items()}
    case |= {"inhibition": False, "quant": None, "beta": np.clip(case["beta"], 0.1, 0.9)}  # no jumps, no clipping
    chosen = getattr(ref, case["surrogate"][0])(**case["surrogate"][1])
    _, _, tape = reference_of(case, spike=chosen.primitive)
    gradients = ref.rleaky_backward(tape, case["dspk"], case["dmem"], chosen)
    inputs = {"current": case["current"], "beta": case["beta"], "threshold": case["threshold"], **case["weights"]}
    inputs |= state_of(case) | ({"graded_spikes_factor": case["g"]} if "g" in case else {})
    rng = np.random.default_rng(seed)
    along = {name: rng.normal(size=np.shape(x)) for name, x in inputs.items()}

    def loss(distance: float) -> float:
        moved = {name: x + distance * along[name] for name, x in inputs.items()}
        spk, mem, _ = reference_of(case, spike=chosen.primitive, reset=tape.R, **moved)
        return float((0 if case["dspk"] is None else (case["dspk"] * spk).sum()) + (case["dmem"] * mem).sum())

    slopes = [float((gradients[name] * direction).sum()) for name, direction in along.items()]
    step = 1e-6
    assert abs((loss(step) - loss(-step)) / (2 * step) - sum(slopes)) < DIFFERENCES * max(1, sum(map(abs, slopes)))


@numbers
@given(neurons())
def test_a_run_equals_its_single_steps(case: dict[str, Any]) -> None:
    layer = layer_of(case)
    spk, mem = layer.forward(case["current"], **state_of(case))
    states = [np.zeros(()) if case[name] is None else case[name] for name in ("spk0", "mem0")]
    states = states if case["feedback"] else states[1:]
    for t, x in enumerate(case["current"]):
        made = layer(x, *states)
        np.testing.assert_array_equal(made[0], spk[t])
        assert relative_error(made[1], mem[t]) < ROUNDING
        states = list(made[-len(states) :])


@numbers
@given(neurons())
def test_backward_is_linear_in_what_comes_from_above(case: dict[str, Any]) -> None:
    layer = layer_of(case)
    spk, _ = layer.forward(case["current"], **state_of(case))
    dspk = np.full_like(spk, 0.5) if case["dspk"] is None else case["dspk"]

    def back(dspk: np.ndarray | None, dmem: np.ndarray | None) -> dict[str, np.ndarray]:
        got = {"current": layer.backward(dspk, dmem), "mem0": layer.dmem0, "spk0": layer.dspk0}
        return got | {name: gradient.copy() for name, gradient in layer.gradients.items()}

    first, second, both = back(dspk, None), back(None, case["dmem"]), back(dspk, case["dmem"])
    for name, gradient in both.items():
        scale = abs(first[name]).max() + abs(second[name]).max() or 1.0
        assert abs(first[name] + second[name] - gradient).max() < ROUNDING * scale, name


@numbers
@given(st.floats(-4, 4, width=32), st.sampled_from(["float32", "float64"]), st.sampled_from(["Leaky", "RLeaky"]))
def test_a_membrane_on_the_threshold_does_not_spike_and_the_next_number_does(
    threshold: float, dtype: str, kind: str
) -> None:
    theta = np.array(threshold, dtype)
    options: dict[str, Any] = {"threshold": threshold, "dtype": dtype, "reset_mechanism": "none"}
    layer = snn.Leaky(0.5, **options) if kind == "Leaky" else snn.RLeaky(0.5, all_to_all=False, **options)
    above = np.nextafter(theta, np.array(np.inf, dtype), dtype=dtype)
    spk, mem = layer.forward(np.array([[theta, above]]))
    np.testing.assert_array_equal(mem, [[theta, above]])
    np.testing.assert_array_equal(spk, [[0, 1]])


@st.composite
def cells(draw: st.DrawFn, names: tuple[str, ...] = tuple(SURROGATES)) -> dict[str, Any]:
    """A configuration of SLSTM, and the numbers to run it on."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs, n = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 16, 17, 65]))
    steps, batch = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 17]))
    made, bias, given_state = (steps, batch, n), draw(st.booleans()), draw(st.booleans())
    weights = {"weight_ih": rng.normal(0, 0.7, (4 * n, inputs)), "weight_hh": rng.normal(0, 0.7, (4 * n, n))}
    if bias:
        weights |= {"bias_ih": rng.normal(size=4 * n), "bias_hh": rng.normal(size=4 * n)}
    return {
        "weights": weights,
        "surrogate": draw(surrogates(names)),
        "threshold": rng.uniform(-0.3, 0.3, draw(st.sampled_from([(), (n,)]))),
        "reset": draw(st.sampled_from(["subtract", "zero", "none"])),
        "x": rng.normal(size=(steps, batch, inputs)),
        "state": {name: rng.normal(size=made[1:]) for name in ("syn0", "mem0")} if given_state else {},
        "up": [rng.normal(size=made) if draw(st.booleans()) else None for _ in range(2)] + [rng.normal(size=made)],
    }


@numbers
@given(cells())
def test_any_cells_equal_the_reference_and_their_single_steps(case: dict[str, Any]) -> None:
    name, arguments = case["surrogate"]
    weights = case["weights"]
    layer = snn.SLSTM(
        weights["weight_ih"].shape[1],
        weights["weight_hh"].shape[1],
        bias="bias_ih" in weights,
        threshold=case["threshold"],
        learn_threshold=True,
        spike_grad=getattr(surrogate, name)(**arguments),
        reset_mechanism=case["reset"],
        dtype="float64",
    )
    layer.load_state_dict(layer.state_dict() | {f"lstm_cell.{key}": x for key, x in weights.items()})
    made = layer.forward(case["x"], **case["state"])
    got = {"x": layer.backward(*case["up"]), "syn0": layer.dsyn0, "mem0": layer.dmem0}
    got |= {key.removeprefix("lstm_cell."): gradient for key, gradient in layer.gradients.items()}
    *expected, tape = ref.slstm_forward(
        case["x"], **weights, threshold=case["threshold"], reset_mechanism=case["reset"], **case["state"]
    )
    gradients = ref.slstm_backward(tape, *case["up"], getattr(ref, name)(**arguments))
    np.testing.assert_array_equal(made[0], expected[0])
    for a, b in zip(made[1:], expected[1:], strict=True):
        assert relative_error(a, b) < ROUNDING
    assert got.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert relative_error(got[key], gradient) < ROUNDING, key

    states = [case["state"].get(key, np.zeros(())) for key in ("syn0", "mem0")]
    for t, x in enumerate(case["x"]):
        step = layer(x, *states)
        np.testing.assert_array_equal(step[0], made[0][t])
        for a, b in zip(step[1:], made[1:], strict=True):
            assert relative_error(a, b[t]) < ROUNDING
        states = list(step[1:])


@numbers
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 4),
    st.sampled_from([1, 3, 17]),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_any_linear_layer_equals_the_reference(
    inputs: int, outputs: int, steps: int, batch: int, bias: bool, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, batch, inputs)) * (rng.random((steps, batch, inputs)) < density)
    dy = rng.normal(size=(steps, batch, outputs))
    layer = snn.Linear(inputs, outputs, bias, dtype="float64", seed=0)
    weight = layer.parameters["weight"]
    b = layer.parameters["bias"] if bias else np.zeros(outputs)
    assert relative_error(layer.forward(x), ref.linear_forward(x, weight, b)) < ROUNDING
    got = {"x": layer.backward(dy)} | layer.gradients
    expected = ref.linear_backward(dy, x, weight)
    for name in got:
        assert relative_error(got[name], expected[name]) < ROUNDING, name
