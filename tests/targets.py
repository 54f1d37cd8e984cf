"""Where golden cases run: on the CPU in both precisions, and in float32 on a GPU where there is one."""

import os
from typing import Any

import numpy as np
import pytest

import snnumba as snn
from snnumba import backend

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def gpu_is_missing() -> bool:
    """Whether there is no GPU here; numba's simulator is none."""
    if SIMULATED:
        return True
    try:
        backend.load("cuda")
    except ValueError:
        return True
    return False


NEEDS_GPU = pytest.mark.skipif(gpu_is_missing(), reason="needs a CUDA device")
TARGETS = [("float64", "cpu"), ("float32", "cpu"), pytest.param("float32", "cuda", marks=NEEDS_GPU)]
on_every_target = pytest.mark.parametrize(("dtype", "device"), TARGETS)
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])


def moved(layer: Any, device: str) -> Any:
    """A spiking layer on a device, as the one layer of a net."""
    snn.Network(layer, num_steps=1, device=device, dtype=layer.dtype)
    return layer


def on_host(x: Any) -> np.ndarray:
    """An array of any device."""
    return np.asarray(backend.of(x).to_host(x))
