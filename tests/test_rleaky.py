"""RLeaky and its kernels against snnTorch's own numbers and the float64 reference."""

from typing import Any

import numpy as np
import pytest
import reference as ref
from golden_files import cases, load
from reference import relative_error

import snnumba as snn
from snnumba import surrogate

# Golden cases whose surrogate the package has.
KNOWN = ("atan", "fast_sigmoid", "sigmoid", "straight_through_estimator", "spike_rate_escape", "SFS", "LSO")
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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "case",
    cases("rleaky.h5", lambda config: config["feedback"] == "linear" and config["surrogate"]["name"] in KNOWN),
)
def test_golden_linear_feedback(case: str, dtype: str) -> None:
    config, data = load("rleaky.h5", case)
    layer = linear_layer(
        data["beta"],
        data["weight"],
        data["bias"],
        dtype,
        threshold=data["threshold"],
        spike_grad=getattr(surrogate, config["surrogate"]["name"])(**config["surrogate"]["params"]),
        **{name: config[name] for name in ("learn_beta", "learn_threshold", "learn_recurrent")},
        **{name: config[name] for name in ("reset_mechanism", "reset_delay")},
    )
    typed = {name: x.astype(dtype) for name, x in data.items()}
    spk, mem = layer.forward(typed["x"], typed.get("spk0"), typed.get("mem0"))
    dcurrent = layer.backward(dspk=typed["gS"], dmem=typed["gU"])

    np.testing.assert_array_equal(spk, data["spk"])
    assert relative_error(mem, data["mem"]) < TOLERANCE[dtype]
    got = {"x": dcurrent, "spk0": layer.dspk0, "mem0": layer.dmem0}
    got |= {name.removeprefix("recurrent."): x for name, x in layer.gradients.items()}
    expected = {name.removeprefix("grad_"): x for name, x in data.items() if name.startswith("grad_")}
    assert set(expected) - {"x", "spk0", "mem0"} == set(got) - {"x", "spk0", "mem0"}
    for name, x in expected.items():
        assert relative_error(got[name], x) < TOLERANCE[dtype], name


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("n", [1, 9, 64, 65, 130])
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
        ({"beta": [0.5, 0.5]}, ValueError, r"beta must be a number or have the shape \(3,\); got \(2,\)"),
        ({"beta": "high"}, TypeError, "beta must be a number or an array of 3; got 'high'"),
        ({"beta": float("nan")}, ValueError, "beta must be finite"),
        ({"threshold": [[1.0]]}, ValueError, "threshold"),
        ({"reset_mechanism": "half"}, ValueError, "reset_mechanism must be one of subtract, zero, none; got 'half'"),
        ({"spike_grad": abs}, TypeError, "spike_grad"),
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
        (np.zeros(3, np.float32), ValueError, r"current must be \(T, B, 3\); got \(3,\)"),
        (np.zeros((0, 2, 3), np.float32), ValueError, "current must not be empty"),
        ([[0.0] * 3], TypeError, "current must be a NumPy array; got list"),
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
        ({**state, "beta": 0.5, "recurrent.bias": np.full(3, np.nan)}, ValueError, "finite"),
    ]
    for bad, error, message in wrong:
        with pytest.raises(error, match=message):
            layer.load_state_dict(bad)
        for name, x in layer.state_dict().items():
            np.testing.assert_array_equal(x, before[name])
