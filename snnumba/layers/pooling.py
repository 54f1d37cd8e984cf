"""Pooling layers: one number from each window of an image; kernels and equations in kernels/cpu/pool.py."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Array, Spikes, Stateless
from .images import Pair, as_rows, brief, check_image, check_pair, count_windows


class _Pool2d(Stateless):
    """What pooling layers share."""

    sample_axes = 3

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        *,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__(dtype)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else check_pair("stride", stride)
        self.padding = check_pair("padding", padding, least=0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            half = f"half of kernel_size, {brief(self.kernel_size)}"
            raise ValueError(f"padding must be at most {half}; got {padding!r}")

    def __repr__(self) -> str:
        stride = "" if self.stride == self.kernel_size else f", stride={brief(self.stride)}"
        padding = "" if self.padding == (0, 0) else f", padding={brief(self.padding)}"
        return f"{type(self).__name__}({brief(self.kernel_size)}{stride}{padding})"

    @property
    def config(self) -> dict[str, Any]:
        return {
            "layer": type(self).__name__,
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H', W'), for an image (C, H, W)."""
        check_image(self, shape)
        return (shape[0], *count_windows(self, shape, self.kernel_size, self.stride, self.padding))

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        return {}

    def _windows(self, shape: tuple[int, ...], batch: int) -> tuple[Any, Array]:
        """Where the windows are, and room for kernels to work in."""
        windows = self._kernels.pool_windows(shape, self.kernel_size, self.stride, self.padding)
        blocks = self._blocks(batch)
        return windows, self._work.empty("room", (blocks, windows.room), self.dtype)


class AvgPool2d(_Pool2d):
    """The mean of each window of images (C, H, W), zeros of the padding counted.

    Parameters
    ----------
    kernel_size : int or pair of int      height and width of a window
    stride : int or pair of int           pixels from one window to the next; default kernel_size
    padding : int or pair of int          zeros around the image, at most half of kernel_size
    dtype : see Layer

    Semantics of torch.nn.AvgPool2d.

    Raises
    ------
    ValueError
        if an argument is out of its range.

    >>> AvgPool2d(2).forward(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2))
    array([[[[1.5]]]], dtype=float32)
    """

    def _run(self, x: Array | Spikes, steps: int) -> Array:
        self._build()
        self._tape = {}  # lets go of its arrays
        shape, leading, rows, bits = as_rows(x)
        self._tape = {"shape": shape}
        y: Array = self._work.empty("y", (*leading, *self.out_shape(shape)), self.dtype)
        windows, room = self._windows(shape, leading[1])
        self._kernels.avg_pool_forward(rows, bits, windows, room, y.reshape(*leading, -1))
        return y

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        if not input_gradient:
            return None
        shape, leading = self._tape["shape"], dy.shape[:2]
        dx: Array = self._work.empty("dx", (*leading, *shape), self.dtype)
        windows, room = self._windows(shape, leading[1])
        self._kernels.avg_pool_backward(dy.reshape(*leading, -1), windows, room, dx.reshape(*leading, -1))
        return dx


class MaxPool2d(_Pool2d):
    """The largest number of each window of images (C, H, W); of spikes, whether there is one.

    The gradient goes to the first of equals, row after row.

    Parameters
    ----------
    kernel_size : int or pair of int      height and width of a window
    stride : int or pair of int           pixels from one window to the next; default kernel_size
    padding : int or pair of int          what is never the largest, around the image; at most half of kernel_size
    dtype : see Layer

    Semantics of torch.nn.MaxPool2d.

    Raises
    ------
    ValueError
        if an argument is out of its range.

    >>> MaxPool2d(2).forward(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2))
    array([[[[3.]]]], dtype=float32)
    """

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        self._build()
        self._tape = {}  # lets go of its arrays
        shape, leading, rows, bits = as_rows(x)
        made, (windows, room) = self.out_shape(shape), self._windows(shape, leading[1])
        which = self._work.empty("which", (*leading, math.prod(made)), self.dtype)
        self._tape = {"shape": shape, "which": which}
        if bits is not None:
            words = self._work.empty("spk", (*leading, self._kernels.num_words(math.prod(made))), np.uint64)
            self._kernels.max_pool_spikes(bits, windows, room, words, which)
            return Spikes(words, made)
        y: Array = self._work.empty("y", (*leading, *made), self.dtype)
        self._kernels.max_pool_forward(rows, windows, room, y.reshape(*leading, -1), which)
        return y

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        if not input_gradient:
            return None
        shape, leading = self._tape["shape"], dy.shape[:2]
        dx: Array = self._work.empty("dx", (*leading, *shape), self.dtype)
        windows, room = self._windows(shape, leading[1])
        rows = dy.reshape(*leading, -1), self._tape["which"]
        self._kernels.max_pool_backward(*rows, windows, room, dx.reshape(*leading, -1))
        return dx
