"""Losses, each giving a value and the gradient, and metrics; over (T, B, C) arrays, time first.

    from snnumba import functional as SF
    loss, dspk = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)(spk, labels)

Semantics of snnTorch 1.0's functional module; the formulas are in kernels/cpu/loss.py.
Source: Eshraghian et al. 2023, arXiv:2109.12894.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from . import backend
from .layers.base import Array, Workspace, check_array


def _check_output(name: str, x: Any) -> Array:
    """An output (T, B, C) of float32 or float64."""
    dtype = x.dtype if isinstance(x, np.ndarray) else np.dtype("float32")
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64; got {dtype}")
    return check_array(name, x, dtype, ("T", "B", "C"))


def _check_labels(name: str, labels: npt.ArrayLike, batch: int, classes: int) -> npt.NDArray[np.int64]:
    """Labels (B,) in [0, C) as int64."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"{name} must be ({batch},), one per sample; got {array.shape}")
    if array.min() < 0 or array.max() >= classes:
        wrong = int(np.flatnonzero((array < 0) | (array >= classes))[0])
        raise ValueError(f"{name} must lie in [0, {classes}), the classes; {name}[{wrong}] is {array[wrong]}")
    return np.require(array, np.int64, ["C", "A", "W"])


class _SquaredError:
    """A mean squared error between an output (T, B, C) and what the label asks of each class."""

    output = "spk"  # which output of a net it is for: "spk" or "mem"
    kernel = ""

    def __init__(self) -> None:
        self._work = Workspace()

    def _targets(self, steps: int) -> tuple[float, float]:
        """What is asked of the neuron of the label, and of the others."""
        raise NotImplementedError

    def __call__(self, output: Array, targets: npt.ArrayLike) -> tuple[float, Array]:
        """The loss of output (T, B, C) for labels targets (B,), and its gradient (T, B, C).

        Raises
        ------
        TypeError, ValueError
            if output is not a float array (T, B, C), or targets not labels (B,) in [0, C).
        """
        output = _check_output(self.output, output)
        steps, batch, classes = output.shape
        labels = _check_labels("targets", targets, batch, classes)
        number = output.dtype.type
        on, off = self._targets(steps)
        gradient = self._work.empty("gradient", output.shape, output.dtype)
        loss = self._work.empty("loss", (batch,), output.dtype)
        kernel = getattr(backend.load("cpu"), self.kernel)
        kernel(output, labels, number(on), number(off), number(2 / output.size), gradient, loss)
        return float(loss.sum()) / output.size, gradient


class mse_count_loss(_SquaredError):
    """Mean squared error of spike counts.

    The right neuron is to fire in correct_rate of the T steps, the others in incorrect_rate. With c = sum_t spk[t] and
    target int(T rate): sum_BC (c - target)^2 / (B C T).

    Parameters
    ----------
    correct_rate, incorrect_rate : float in [0, 1]

    Raises
    ------
    ValueError
        if a rate is not in [0, 1].

    >>> loss_fn = mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
    >>> loss, dspk = loss_fn(np.ones((10, 1, 2), np.float32), [0])
    >>> loss, dspk.shape                    # counts 10, 10; targets 8, 2; (2^2 + 8^2) / (1 * 2 * 10)
    (3.4, (10, 1, 2))
    """

    kernel = "mse_count"

    def __init__(self, correct_rate: float = 1.0, incorrect_rate: float = 0.0) -> None:
        super().__init__()
        self.correct_rate = _check_rate("correct_rate", correct_rate)
        self.incorrect_rate = _check_rate("incorrect_rate", incorrect_rate)

    def __repr__(self) -> str:
        return f"mse_count_loss(correct_rate={self.correct_rate}, incorrect_rate={self.incorrect_rate})"

    def _targets(self, steps: int) -> tuple[float, float]:
        return int(steps * self.correct_rate), int(steps * self.incorrect_rate)


class mse_membrane_loss(_SquaredError):
    """Mean squared error of membranes: at every step on_target for the right neuron, off_target for the others.

    sum_TBC (mem - target)^2 / (T B C). As in snnTorch, a target is max(onehot on, off) where on > off, so a negative
    off_target becomes 0 then.

    Parameters
    ----------
    on_target, off_target : float         membrane levels

    Raises
    ------
    ValueError
        if a target is not finite.

    >>> loss_fn = mse_membrane_loss(on_target=1.05, off_target=0.2)
    >>> loss, dmem = loss_fn(np.zeros((10, 1, 2)), [0])
    >>> round(loss, 5), dmem.shape        # (1.05^2 + 0.2^2) / 2
    (0.57125, (10, 1, 2))
    """

    output = "mem"
    kernel = "mse_membrane"

    def __init__(self, on_target: float = 1.0, off_target: float = 0.0) -> None:
        super().__init__()
        self.on_target = _check_finite("on_target", on_target)
        self.off_target = _check_finite("off_target", off_target)

    def __repr__(self) -> str:
        return f"mse_membrane_loss(on_target={self.on_target}, off_target={self.off_target})"

    def _targets(self, steps: int) -> tuple[float, float]:
        on, off = self.on_target, self.off_target
        return (max(on, off), max(0.0, off)) if on > off else (on, off)


def accuracy_rate(spk: Array, targets: npt.ArrayLike) -> float:
    """The share of samples whose label's neuron fires most; the lowest index wins a tie.

    Parameters
    ----------
    spk : (T, B, C) float
    targets : (B,) integers               labels

    Raises
    ------
    TypeError, ValueError
        if spk is not a float array (T, B, C), or targets not labels (B,) in [0, C).

    >>> spk = np.zeros((5, 2, 3)); spk[:, 0, 1] = 1
    >>> accuracy_rate(spk, [1, 2])        # the second sample is silent: class 0
    0.5
    """
    return _share_of_largest_sums("spk", spk, targets)


def accuracy_membrane(mem: Array, targets: npt.ArrayLike) -> float:
    """The share of samples whose label's neuron has the highest mean membrane; the rest as in accuracy_rate.

    >>> mem = np.zeros((5, 2, 3)); mem[:, :, 1] = 0.5
    >>> accuracy_membrane(mem, [1, 2])
    0.5
    """
    return _share_of_largest_sums("mem", mem, targets)


_work = Workspace()


def _share_of_largest_sums(name: str, x: Array, targets: npt.ArrayLike) -> float:
    x = _check_output(name, x)
    labels = _check_labels("targets", targets, *x.shape[1:])
    winner = _work.empty("winner", labels.shape, np.int64)
    backend.load("cpu").largest_sum(x, winner)
    return float(np.count_nonzero(winner == labels)) / len(labels)


def _check_finite(name: str, value: float) -> float:
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}")
    return float(value)


def _check_rate(name: str, value: float) -> float:
    if not 0 <= _check_finite(name, value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], a share of the steps; got {value!r}")
    return float(value)
