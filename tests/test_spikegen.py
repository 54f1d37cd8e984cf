"""Spike codes: their statistics, their seeds, and snnTorch's own numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import snnumba as snn
from snnumba import spikegen

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def spike_times(spk: np.ndarray) -> list[int | None]:
    """The step of each neuron's only spike; None where it does not fire."""
    assert spk.sum(0).max() <= 1
    return [int(np.argmax(neuron)) if neuron.any() else None for neuron in spk.T]


# Rate ---------------------------------------------------------------------------------------------------------


@DTYPES
def test_rates_are_the_values(dtype: str) -> None:
    p = np.array([0, 0.1, 0.5, 0.9, 1], dtype)
    steps = 10_000
    spk = spikegen.rate(p, steps, seed=0)
    assert (spk.shape, spk.dtype) == ((steps, 5), dtype)
    # five standard deviations of a binomial: one seed in a million is further off; 0 and 1 are exact
    assert (abs(spk.mean(0, np.float64) - p) <= 5 * np.sqrt(p * (1 - p) / steps)).all()


def test_steps_and_neurons_are_independent() -> None:
    steps = 10_000
    a, b = spikegen.rate(np.full(2, 0.5, np.float32), steps, seed=0).T - 0.5
    for product in (a * b, a[1:] * a[:-1], a[1:] * b[:-1]):
        assert abs(product.mean(dtype=np.float64)) < 5 * 0.25 / math.sqrt(steps)  # five standard deviations


def test_gain_and_offset_change_the_probability_and_it_is_clipped() -> None:
    spk = spikegen.rate([-1.0, 0.1, 0.4, 3.0], 10_000, gain=2.0, offset=0.1, seed=0)
    p = np.array([0, 0.3, 0.9, 1])
    assert (abs(spk.mean(0, np.float64) - p) <= 5 * np.sqrt(p * (1 - p) / 10_000)).all()


def test_no_spikes_before_the_first_spike_time() -> None:
    spk = spikegen.rate(np.ones((2, 3), np.float32), 5, first_spike_time=2)
    np.testing.assert_array_equal(spk.sum((1, 2)), [0, 0, 6, 6, 6])


def test_values_that_change_in_time_keep_their_steps() -> None:
    data = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    np.testing.assert_array_equal(spikegen.rate(data, time_var_input=True), data)
    late = spikegen.rate(data, time_var_input=True, first_spike_time=2)
    np.testing.assert_array_equal(late, np.concatenate([np.zeros((2, 2)), data]))


def test_gain_is_for_values_that_change_in_time_too() -> None:
    data = np.full((20, 2), 0.5, np.float32)
    assert spikegen.rate(data, gain=2.0, time_var_input=True).all()
    assert not spikegen.rate(data, offset=-0.5, time_var_input=True).any()


def test_the_same_seed_gives_the_same_spikes_and_another_others() -> None:
    x = np.full((3, 40), 0.5, np.float32)
    a, b, c = (spikegen.rate(x, 10, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_generator_goes_on() -> None:
    x = np.full((3, 40), 0.5, np.float32)
    rng = np.random.default_rng(7)
    a, b = (spikegen.rate(x, 10, seed=rng) for _ in range(2))
    np.testing.assert_array_equal(a, spikegen.rate(x, 10, seed=7))
    assert (a != b).any()


def test_a_net_takes_the_spikes() -> None:
    net = snn.Network(snn.Linear(4, 3), snn.RLeaky(beta=0.9, linear_features=3), num_steps=5)
    spk, _ = net.forward(spikegen.rate(np.full((2, 4), 0.5, np.float32), 5, seed=0))
    assert spk.shape == (5, 2, 3)


# Latency: snnTorch 1.0.0's latency_code gives the times in the comments, and latency rounds them --------------


def test_larger_values_fire_earlier_as_a_charging_membrane_does() -> None:
    x = [0.02, 0.1, 0.2, 0.5, 1.0]  # 5 ln(x / (x - 0.01)): 3.4657, 0.5268, 0.2565, 0.1010, 0.0503
    assert spike_times(spikegen.latency(x, 6, threshold=0.01, tau=5)) == [3, 1, 0, 0, 0]


def test_a_normalized_code_ends_at_the_last_step() -> None:
    x = [0.005, 0.012, 0.02, 0.1, 0.5, 1.0]  # 8.0000, 2.9343, 2.3614, 2.0549, 2.0105, 2.0052
    assert spike_times(spikegen.latency(x, 9, normalize=True, first_spike_time=2)) == [8, 3, 2, 2, 2, 2]


def test_a_linear_code_falls_in_proportion() -> None:
    x = [0.05, 0.3, 0.55, 0.8, 1.0]  # 1 + 7 (1 - x), at most 1 + 7 * 0.9: 7.3, 5.9, 4.15, 2.4, 1
    spk = spikegen.latency(x, 9, threshold=0.1, tau=7, first_spike_time=1, linear=True)
    assert spike_times(spk) == [7, 6, 4, 2, 1]


def test_halves_are_rounded_to_even() -> None:
    x = np.array([0.875, 0.625, 0.375])  # 4 (1 - x): 0.5, 1.5, 2.5
    assert spike_times(spikegen.latency(x, 5, tau=4, linear=True)) == [0, 2, 2]


def test_values_below_the_threshold_fire_last_or_with_clip_not_at_all() -> None:
    x = [0.0, 0.199, 0.2, 1.0]
    options = {"threshold": 0.2, "normalize": True, "linear": True}
    assert spike_times(spikegen.latency(x, 11, **options)) == [8, 8, 8, 0]  # 10 (1 - 0.2)
    assert spike_times(spikegen.latency(x, 11, clip=True, **options)) == [None, None, 8, 0]


def test_bypass_leaves_out_what_comes_too_late() -> None:
    x = [0.0, 0.5, 1.0]  # 10 (1 - x), at most 9.9
    assert spike_times(spikegen.latency(x, 6, tau=10, linear=True, bypass=True)) == [None, 5, 0]


def test_bypass_alone_takes_as_many_steps_as_are_needed() -> None:
    spk = spikegen.latency([0.0, 0.5, 1.0], tau=10, linear=True, bypass=True)
    assert len(spk) == 11
    assert spike_times(spk) == [10, 5, 0]


def test_values_that_are_all_one_fire_at_once() -> None:
    spk = spikegen.latency(np.ones(2, np.float32), 4, threshold=1e-9, normalize=True)  # snnTorch: 0 / 0
    assert spike_times(spk) == [0, 0]


@DTYPES
def test_a_latency_code_has_one_spike_a_value_in_its_type_and_shape(dtype: str) -> None:
    x = np.random.default_rng(0).random((2, 3, 4)).astype(dtype)
    spk = spikegen.latency(x, 7, normalize=True)
    assert (spk.shape, spk.dtype) == ((7, 2, 3, 4), dtype)
    np.testing.assert_array_equal(spk.sum(0), 1)


# Delta --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 0, 1, 0]),
        ({"padding": True}, [0, 1, 0, 1, 0]),
        ({"off_spike": True}, [1, 1, -1, 1, 0]),
        ({"padding": True, "off_spike": True}, [0, 1, -1, 1, 0]),
    ],
)
def test_a_change_of_the_threshold_spikes(options: dict[str, bool], expected: list[int]) -> None:
    np.testing.assert_array_equal(spikegen.delta([1, 2, 0, 2, 2.9], threshold=1, **options), expected)


def test_changes_of_small_unsigned_integers_do_not_wrap() -> None:
    images = np.array([[0, 255], [255, 0]], np.uint8)
    spk = spikegen.delta(images, threshold=200, padding=True, off_spike=True)
    np.testing.assert_array_equal(spk, [[0, 0], [1, -1]])
    assert spk.dtype == np.float32


def test_every_neuron_has_its_own_changes() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 3))
    spk = spikegen.delta(x, 0.5, off_spike=True)
    assert (spk.shape, spk.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(spk[:, 1, 2], spikegen.delta(x[:, 1, 2], 0.5, off_spike=True))


# Refusals -----------------------------------------------------------------------------------------------------

HALF = np.array([0.5, 0.5], np.float32)
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "texts": (lambda: spikegen.rate(["a"], 3), TypeError, "data must hold numbers; got <U1"),
    "nothing": (lambda: spikegen.rate([], 3), ValueError, r"data must not be empty; got \(0,\)"),
    "NaN": (lambda: spikegen.delta([1.0, math.nan]), ValueError, "data must hold finite numbers; 1 of 2 are not"),
    "one number in time": (lambda: spikegen.delta(1.0), ValueError, r"data must be \(T, ...\), time first; got \(\)"),
    "outside [0, 1]": (lambda: spikegen.latency([-0.5, 2], 3), ValueError, r"data must lie in \[0, 1\]; got \[-0.5, 2"),
    "no steps": (lambda: spikegen.rate(HALF), ValueError, "num_steps must be given where .*; got num_steps=None"),
    "steps twice": (
        lambda: spikegen.rate(HALF, 3, time_var_input=True),
        ValueError,
        "and only there; got num_steps=3 and time_var_input=True",
    ),
    "0 steps": (lambda: spikegen.rate(HALF, 0), ValueError, "num_steps must be a positive integer; got 0"),
    "0 steps of latency": (lambda: spikegen.latency(HALF, 0), ValueError, "num_steps must be a positive integer"),
    "first spike too late": (
        lambda: spikegen.rate(HALF, 3, first_spike_time=3),
        ValueError,
        "first_spike_time must be below num_steps, 3; got 3",
    ),
    "first spike before 0": (
        lambda: spikegen.latency(HALF, 3, first_spike_time=-1),
        ValueError,
        "first_spike_time must be a step, 0 or later; got -1",
    ),
    "gain of text": (lambda: spikegen.rate(HALF, 3, gain="2"), TypeError, "gain must be a number; got '2'"),
    "offset infinite": (lambda: spikegen.rate(HALF, 3, offset=math.inf), ValueError, "offset must be finite; got inf"),
    "threshold 0": (lambda: spikegen.latency(HALF, 3, 0), ValueError, "threshold must lie between 0 and 1; got 0"),
    "threshold 1": (lambda: spikegen.latency(HALF, 3, 1), ValueError, "threshold must lie between 0 and 1; got 1"),
    "tau 0": (lambda: spikegen.latency(HALF, 3, tau=0), ValueError, "tau must be above 0; got 0"),
    "no steps of latency": (
        lambda: spikegen.latency(HALF),
        ValueError,
        "num_steps must be given, .*; got bypass=False and normalize=False",
    ),
    "no steps to fill": (
        lambda: spikegen.latency(HALF, bypass=True, normalize=True),
        ValueError,
        "num_steps must be given, .*; got bypass=True and normalize=True",
    ),
    "a late spike": (
        lambda: spikegen.latency(HALF, 5, tau=12, linear=True),
        ValueError,
        "the last spike is at step 6 and num_steps is 5: set normalize, or a smaller tau, or bypass",
    ),
    "delta below 0": (lambda: spikegen.delta(HALF, -0.1), ValueError, "threshold must be at least 0; got -0.1"),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
