"""Checks of what losses and metrics are given: each returns what kernels may take, or says what was seen."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backend
from ..checks import as_array, check_flag, is_finite
from ..layers.base import Array, check_size


def check_output(name: str, x: Any) -> Array:
    """An output (T, B, C) of float32 or float64."""
    kernels = backend.of(x)
    x = kernels.as_array(name, x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64; got {x.dtype}")
    checked: Array = kernels.check_array(name, x, x.dtype, ("T", "B", "C"))
    return checked


def check_labels(name: str, labels: npt.ArrayLike, batch: int, classes: int) -> npt.NDArray[np.int64]:
    """Labels (B,) in [0, C) as int64, on the host."""
    array = as_array(name, backend.of(labels).to_host(labels))
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"{name} must be ({batch},), one per sample; got {array.shape}")
    ready = array.dtype == np.int64 and array.flags.carray
    checked = array if ready else np.require(array, np.int64, ["C", "A", "W"])
    if np.maximum.reduce(checked.view(np.uint64)) >= classes:  # or negative
        wrong = int(np.flatnonzero((array < 0) | (array >= classes))[0])
        raise ValueError(f"{name} must lie in [0, {classes}), the classes; {name}[{wrong}] is {array[wrong]}")
    return checked


def check_numbers(name: str, x: npt.ArrayLike, *shapes: tuple[int, ...]) -> Array:
    """Finite numbers in one of these shapes, on the host."""
    array = as_array(name, backend.of(x).to_host(x))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be numbers; got {array.dtype}")
    if array.shape not in shapes:
        raise ValueError(f"{name} must be {' or '.join(map(str, shapes))}; got {array.shape}")
    for extreme in (array.min(), array.max()):  # NaN is both; unlike isfinite, they allocate nothing
        if not math.isfinite(extreme):
            raise ValueError(f"{name} must be finite; got {extreme}")
    return array


def check_weight(weight: npt.ArrayLike) -> Array:
    """Weights of classes, (C,) float64, a copy."""
    array = as_array("weight", weight)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"weight must be (C,), one per class; got {array.shape}")
    check_numbers("weight", array, array.shape)
    if array.min() < 0:
        raise ValueError(f"weight must not be negative; weight[{array.argmin()}] is {array.min()}")
    return array.astype(np.float64)


def check_population(population_code: Any, num_classes: Any) -> int | None:
    """The number of classes that share the outputs; None where every output is a class of its own."""
    absent = num_classes is None or (isinstance(num_classes, int) and not num_classes)  # snnTorch's default is False
    if check_flag("population_code", population_code):
        if absent:
            raise ValueError(f"num_classes must be given with population_code=True; got {num_classes!r}")
        return check_size("num_classes", num_classes)
    if not absent:
        raise ValueError(f"num_classes needs population_code=True; got num_classes={num_classes!r} without it")
    return None


def check_finite(name: str, value: Any) -> float:
    """A finite number."""
    if not is_finite(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}")
    return float(value)


def check_rate(name: str, value: Any) -> float:
    """A share of the steps."""
    if not 0 <= check_finite(name, value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], a share of the steps; got {value!r}")
    return float(value)
