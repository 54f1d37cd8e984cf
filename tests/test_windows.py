"""Runs in windows, checkpoint_every: the same bits, less memory, nothing else changed."""

import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnumba as snn
from snnumba import datasets, optim
from snnumba import functional as SF
from snnumba.kernels import cpu

INPUTS, HIDDEN, STEPS, BATCH = 12, 21, 7, 19  # more than one block of samples

Made = Callable[[], list[Any]]
NETS: dict[str, Made] = {
    "linear feedback": lambda: [
        snn.Linear(INPUTS, HIDDEN),
        snn.RLeaky(0.9, linear_features=HIDDEN, threshold=0.3),
        snn.Linear(HIDDEN, 5, bias=False),
        snn.RLeaky(0.9, linear_features=5, threshold=0.2),
    ],
    "one-to-one feedback, all learnt": lambda: [
        snn.RLeaky(0.9, all_to_all=False, V=np.full(INPUTS, 0.3), threshold=0.3, learn_beta=True, learn_threshold=True),
        snn.Leaky(0.8, threshold=0.2, learn_beta=True, learn_threshold=True, learn_graded_spikes_factor=True),
        snn.Linear(INPUTS, 5),
        snn.RLeaky(0.7, all_to_all=False, threshold=0.2, reset_delay=False, inhibition=True),
    ],
    "neurons after neurons, resets": lambda: [
        snn.RLeaky(0.9, linear_features=INPUTS, threshold=0.3, reset_mechanism="zero", learn_threshold=True),
        snn.RLeaky(0.8, linear_features=INPUTS, threshold=0.2, reset_delay=False, learn_beta=True),
    ],
    "dropout": lambda: [
        snn.Dropout(0.3),
        snn.Linear(INPUTS, HIDDEN),
        snn.RLeaky(0.9, all_to_all=False, threshold=0.3),
        snn.Dropout(0.5),
        snn.Linear(HIDDEN, 5),
        snn.Leaky(0.9, threshold=0.2),
    ],
    "cells": lambda: [
        snn.SLSTM(INPUTS, HIDDEN, threshold=0.05, learn_threshold=True, reset_mechanism="subtract"),
        snn.Linear(HIDDEN, 5),
        snn.SLSTM(5, 4, threshold=0.03),
    ],
    "images": lambda: [
        snn.Conv2d(3, 3, 3, padding=1),
        snn.RLeaky(0.9, conv2d_channels=3, kernel_size=3, threshold=0.3, learn_beta=True),
        snn.MaxPool2d(2),
        snn.Conv2d(3, 2, (1, 2)),
        snn.AvgPool2d(1),
        snn.Flatten(),
        snn.Leaky(0.9, threshold=0.05),
    ],
    "layers of the user's as feedback": lambda: [
        snn.Linear(INPUTS, HIDDEN),
        snn.RLeaky(
            0.9,
            recurrent=[
                snn.Linear(HIDDEN, 9),
                snn.RLeaky(0.8, linear_features=9, threshold=0.2, learn_beta=True),
                snn.Dropout(0.2),
                snn.Linear(9, HIDDEN),
            ],
            threshold=0.3,
            learn_beta=True,
        ),
    ],
}


def ran(make: Made, x: np.ndarray, up: Any, every: int | None) -> list[tuple[Any, ...]]:
    """What two runs, the second from the state that the first left, give forward and back."""
    net = snn.Network(*make(), num_steps=STEPS, seed=0, checkpoint_every=every)
    made = []
    for _ in range(2):
        spk, mem = net.forward(x)
        rates = net.firing_rates()
        dx = net.backward(*up, input_gradient=True)
        assert dx is not None
        made.append((spk, mem, dx, net.gradient_vector.copy(), rates, net.random_state()))
        net.detach()
    return made


def assert_same_bits(got: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            assert a.tobytes() == b.tobytes()
        assert ours[4] == theirs[4]
        np.testing.assert_equal(ours[5], theirs[5])


def numbers(make: Made, timed: bool, output: str) -> tuple[np.ndarray, tuple[np.ndarray | None, ...]]:
    """An input, and gradients of spikes, of membranes, or of both."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 4) if isinstance(make()[0], snn.Conv2d) else (INPUTS,)
    x = rng.normal(0.4, 1, (*(STEPS,) * timed, BATCH, *shape)).astype(np.float32)
    spk, _ = snn.Network(*make(), num_steps=STEPS, seed=0).forward(x)
    up = (rng.normal(size=spk.shape).astype(np.float32) if name in output else None for name in ("spk", "mem"))
    return x, tuple(up)


QUICK = "one-to-one feedback, all learnt", "neurons after neurons, resets"


@pytest.mark.parametrize("output", ["spk", "mem", "spk and mem"])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.compiled) for name in NETS]
)
def test_windows_of_any_length_give_the_bits_of_the_whole_run(name: str, timed: bool, output: str) -> None:
    x, up = numbers(NETS[name], timed, output)
    expected = ran(NETS[name], x, up, None)
    assert np.any(expected[0][0])
    assert np.any(expected[0][3])
    for every in (1, 2, 3, STEPS - 1, STEPS, STEPS + 1):
        assert_same_bits(ran(NETS[name], x, up, every), expected)


@pytest.mark.compiled
@pytest.mark.parametrize("name", NETS)
def test_threads_do_not_change_a_bit_of_windows(name: str) -> None:
    before = snn.get_num_threads()
    x, up = numbers(NETS[name], True, "spk and mem")
    try:
        made = []
        for threads in (1, 2, 3):
            snn.set_num_threads(threads)
            made.append(ran(NETS[name], x, up, 3))
    finally:
        snn.set_num_threads(before)
    for other in made[1:]:
        assert_same_bits(other, made[0])


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    "name", ["linear feedback", "neurons after neurons, resets", "layers of the user's as feedback"]
)
def test_windows_give_the_same_bits_where_samples_and_inputs_are_summed_in_parts(name: str, timed: bool) -> None:
    x, up = numbers(NETS[name], timed, "spk")
    whole = ran(NETS[name], x, up, None)
    halves = {"num_parts": Mock(return_value=2), "num_input_parts": Mock(return_value=2)}
    with patch.multiple(cpu, **halves):
        expected = ran(NETS[name], x, up, None)
        assert halves["num_parts"].called == (name != "layers of the user's as feedback")  # a run a step
        assert halves["num_input_parts"].called == (not timed and "Linear" in str(NETS[name]()[0]))
        for every in (1, 3, STEPS):
            assert_same_bits(ran(NETS[name], x, up, every), expected)
        net = snn.Network(*NETS[name](), num_steps=STEPS, seed=0).eval()
        together = net.forward(x, record="membrane").copy()
        for b in (0, BATCH - 1):
            alone = net.forward(x[:, [b]] if timed else x[[b]], record="membrane")
            np.testing.assert_array_equal(together[:, [b]], alone)
    for ours, theirs in zip(expected, whole, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[3], theirs[3], rtol=1e-5, atol=1e-5 * abs(theirs[3]).max())


@pytest.mark.compiled
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_any_number_of_steps_and_samples_gives_the_same_bits(steps: int, every: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.random((steps, batch, INPUTS)).astype(np.float32)
    net = snn.Network(*NETS["linear feedback"](), num_steps=steps, seed=0)
    spk, mem = net.forward(x)
    dspk = rng.normal(size=spk.shape).astype(np.float32)
    net.backward(dspk)
    expected = net.gradient_vector.copy()
    net.checkpoint_every = every
    again, same = net.forward(x)
    net.backward(dspk)
    np.testing.assert_array_equal(again, spk)
    np.testing.assert_array_equal(same, mem)
    assert net.gradient_vector.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["linear feedback", "layers of the user's as feedback"])
def test_windows_go_back_a_second_time(name: str) -> None:
    x, up = numbers(NETS[name], True, "spk")
    net = snn.Network(*NETS[name](), num_steps=STEPS, seed=0, checkpoint_every=2)
    net.forward(x)
    net.backward(*up)
    first = net.gradient_vector.copy()
    net.backward(*up)
    np.testing.assert_array_equal(net.gradient_vector, first)


def test_what_is_between_forward_and_backward_is_not_lost_in_windows() -> None:
    x, up = numbers(NETS["linear feedback"], True, "spk")
    late, early = (snn.Network(*NETS["linear feedback"](), num_steps=STEPS, seed=0, checkpoint_every=2) for _ in "ab")
    for net, detach_first in ((late, False), (early, True)):
        net.forward(x)
        if detach_first:
            net.detach()
        net.backward(*up)
        if not detach_first:
            net.detach()
    np.testing.assert_array_equal(late.forward(x)[1], early.forward(x)[1])


def test_a_net_that_is_evaluated_drops_nothing_in_windows() -> None:
    x, _ = numbers(NETS["dropout"], True, "spk")
    nets = [snn.Network(*NETS["dropout"](), num_steps=STEPS, seed=0, checkpoint_every=k).eval() for k in (None, 2)]
    whole, windows = (net.forward(x)[1] for net in nets)
    np.testing.assert_array_equal(whole, windows)
    np.testing.assert_array_equal(nets[1].forward(x, record="membrane"), whole)


def trained(every: int | None) -> tuple[snn.Network, Any]:
    """A net of the kind of the tutorial's, and the history of its training."""
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 4), np.uint8)
    data = datasets.Dataset(images, np.arange(60) % 5)
    net = snn.Network(*NETS["dropout"](), num_steps=STEPS, seed=0, checkpoint_every=every)
    optimizer = optim.Adam(net, lr=1e-2)
    history = snn.fit(net, data, SF.mse_count_loss(0.8, 0.2), optimizer, 2, data, batch_size=20, progress=False)
    return net, history


@pytest.mark.compiled
def test_training_in_windows_is_training() -> None:
    (net, history), (other, same) = trained(None), trained(3)
    assert net.vector.tobytes() == other.vector.tobytes()
    np.testing.assert_array_equal(history.loss, same.loss)
    assert history.rates == same.rates
    assert history.validation_accuracy == same.validation_accuracy


def peak(every: int | None, hidden: int = 256, steps: int = 100, batch: int = 64) -> int:
    """The most bytes of arrays that a first step of training has at once, beside the parameters."""
    net = snn.Network(
        snn.Linear(INPUTS, hidden),
        snn.RLeaky(0.9, linear_features=hidden),
        snn.Linear(hidden, 10),
        snn.RLeaky(0.9, linear_features=10),
        num_steps=steps,
        seed=0,
        checkpoint_every=every,
    )
    x, dspk = np.ones((batch, INPUTS), np.float32), np.ones((steps, batch, 10), np.float32)
    begun, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    net.forward(x)
    net.backward(dspk=dspk)
    return tracemalloc.get_traced_memory()[1] - begun


@pytest.mark.compiled
def test_a_step_in_windows_takes_the_memory_that_is_stated() -> None:
    row, steps, every = 4 * 64 * 256, 100, 10  # bytes of a step of the hidden layer
    peak(every, 8, 20, 2)  # compiles
    tracemalloc.start()
    try:
        whole, windows = peak(None), peak(every)
    finally:
        tracemalloc.stop()
    # The input is constant in time, so that its current is not T long: 3 arrays are. Beside them there are arrays of a
    # step, such as its current, the weight transposed, and what is of 10 outputs.
    rest = 7 * row + 4 * 256 * 256 + 5 * 4 * steps * 64 * 10
    assert 3 * row * steps < whole < 3 * row * steps + rest
    assert 3 * row * every < windows < row * (3 * every + steps / every + 2) + rest


@pytest.mark.parametrize("every", [0, -1, 2.5, True, "3"])
def test_a_bad_checkpoint_every_is_refused_by_its_name(every: Any) -> None:
    message = "checkpoint_every must be a positive integer; got"
    with pytest.raises(ValueError, match=message):
        snn.Network(*NETS["cells"](), num_steps=STEPS, checkpoint_every=every)
    net = snn.Network(*NETS["cells"](), num_steps=STEPS)
    with pytest.raises(ValueError, match=message):
        net.checkpoint_every = every
    assert net.checkpoint_every is None
