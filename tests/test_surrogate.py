"""Surrogate gradients: the rules against the reference's formulas."""

import numpy as np
import pytest
import reference as ref

import snnumba as snn
from snnumba import surrogate

X = np.concatenate([np.linspace(-3, 3, 61), [-1e-9, 0.0, 1e-9, -40.0, 40.0]])


@pytest.mark.parametrize("name", surrogate.KINDS)
def test_a_rule_equals_the_reference(name: str) -> None:
    ours, reference = getattr(surrogate, name)(), getattr(ref, name)()
    np.testing.assert_allclose(ours(X), reference(X), rtol=1e-13)  # the same formula in another order


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("atan", {"alpha": 5.0}),
        ("fast_sigmoid", {"slope": 10.0}),
        ("sigmoid", {"slope": 3.0}),
        ("triangular", {"threshold": 0.5}),
        ("spike_rate_escape", {"beta": 2.0, "slope": 1.5}),
        ("SFS", {"slope": 4.0, "B": 0.1}),
        ("LSO", {"slope": 0.3}),
    ],
)
def test_parameters_reach_the_rule(name: str, parameters: dict[str, float]) -> None:
    ours, default = getattr(surrogate, name)(**parameters), getattr(surrogate, name)()
    np.testing.assert_allclose(ours(X), getattr(ref, name)(**parameters)(X), rtol=1e-13)
    assert not np.allclose(ours(X), default(X))


def test_sigmoid_does_not_overflow_far_from_the_threshold() -> None:
    with np.errstate(over="raise"):
        np.testing.assert_array_equal(surrogate.sigmoid(slope=25)([-1e4, 1e4]), 0)


def test_a_function_that_numba_cannot_compile_is_refused() -> None:
    with pytest.raises(TypeError, match="function must be one that Numba compiles"):
        surrogate.custom_surrogate(lambda x: x.nothing)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="function must give a number for a number"):
        surrogate.custom_surrogate(lambda x: (x, x))  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="function must be a scalar function; got 3"):
        surrogate.custom_surrogate(3)  # type: ignore[arg-type]


def test_a_layer_with_a_function_cannot_be_written_down() -> None:
    layer = snn.Leaky(beta=0.9, spike_grad=surrogate.custom_surrogate(lambda x: 1.0))
    with pytest.raises(TypeError, match=r"spike_grad of Leaky.* is a function, which cannot be written down"):
        _ = layer.config
