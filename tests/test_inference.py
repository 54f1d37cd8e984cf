"""A pass without a tape: forward(record=...) gives what forward does, in little memory."""

import tracemalloc
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import snnumba as snn
from snnumba import network

NETS: dict[str, tuple[tuple[int, ...], Any]] = {  # shape of a sample, layers
    "tutorial": (
        (9,),
        lambda: [snn.Linear(9, 70), snn.RLeaky(0.9, linear_features=70), snn.Linear(70, 4), snn.Leaky(0.9)],
    ),
    "images": (
        (2, 5, 6),
        lambda: [snn.Conv2d(2, 3, 3), snn.MaxPool2d(2, stride=1), snn.RLeaky(0.9, conv2d_channels=3, kernel_size=3)],
    ),
    "graded": ((9,), lambda: [snn.Linear(9, 5), snn.Leaky(0.9, graded_spikes_factor=[0.5, 1, 2, 3, 4])]),
    "cells": ((9,), lambda: [snn.SLSTM(9, 6, threshold=0.05)]),
    "dropout": ((9,), lambda: [snn.Dropout(0.3), snn.Linear(9, 5), snn.Leaky(0.9)]),
}


def net_of(kind: str) -> snn.Network:
    return snn.Network(*NETS[kind][1](), num_steps=6, seed=0)


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("tape", [1, network.TAPE])  # 32 samples at a time, or all
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.compiled) if k in ("tutorial", "images") else k for k in NETS]
)
def test_a_recorded_pass_has_the_bits_of_a_whole_one(kind: str, tape: int, moving: bool) -> None:
    leading = (6, 75) if moving else (75,)
    x = (3 * np.random.default_rng(0).normal(size=(*leading, *NETS[kind][0]))).astype(np.float32)
    spk, mem = net_of(kind).forward(x)
    assert 0 < spk.mean() < 1 or kind == "graded"
    expected = {"spikes": spk, "membrane": mem, "count": spk.sum(0)}
    with patch.object(network, "TAPE", tape):
        for record, array in expected.items():
            np.testing.assert_array_equal(net_of(kind).forward(x, record=record), array)


@pytest.mark.compiled
def test_a_recorded_pass_needs_memory_for_a_few_samples_only() -> None:
    net = snn.Network(snn.Linear(9, 128), snn.Leaky(0.9), snn.Linear(128, 3), snn.Leaky(0.9), num_steps=100, seed=0)
    x = np.random.default_rng(0).random((4096, 9), np.float32)
    net.forward(x[:1], record="count")  # compiles
    tracemalloc.start()
    try:
        counts = net.forward(x, record="count")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts.shape == (4096, 3)
    membranes = 4096 * 100 * 128 * 4
    assert peak < membranes / 2


def test_carried_states_reach_a_recorded_pass() -> None:
    x = (3 * np.random.default_rng(0).normal(size=(4, 75, 9))).astype(np.float32)
    whole = net_of("tutorial").forward(x, num_steps=4)[0]
    net = net_of("tutorial")
    net.forward(x[:2], num_steps=2)
    net.detach()
    with patch.object(network, "TAPE", 1):
        np.testing.assert_array_equal(net.forward(x[2:], 2, record="spikes"), whole[2:])


def test_there_is_no_way_back_from_a_recorded_pass() -> None:
    net = net_of("tutorial")
    net.forward(np.ones((2, 9), np.float32))
    spk = net.forward(np.ones((2, 9), np.float32), record="spikes")
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        net.backward(dspk=spk)


def test_another_record_is_refused() -> None:
    with pytest.raises(ValueError, match="record must be one of spikes, membrane, count, or None; got 'mem'"):
        net_of("tutorial").forward(np.ones((2, 9), np.float32), record="mem")
