"""Pooling of images: of each window of each channel, the mean or the largest number.

Eqs. (1) to (3) are in kernels/cpu/pool.py. A thread has a window in (1) and (2), and a pixel of dx in (3).
"""

import math
from functools import cache

import numpy as np

from ..cpu import pool as cpu
from ._driver import THREADS, cuda, elementwise, kernel, part
from .bits import bit, is_set, no_bits, word_of
from .dense import flat


class Windows(cpu.Windows):
    """Where the windows are."""

    @property
    def room(self) -> int:
        """Numbers to work in: none are used, but an array has one."""
        return 1


@cache
def pool_windows(shape, kernel_size, stride, padding):
    """The windows of samples of a shape (C, H, W); the others are pairs: down, across."""
    return Windows(*cpu.pool_windows(shape, kernel_size, stride, padding))


@part
def corner(windows, n):
    """Window n of a sample: where its channel begins, and the pixel of its first row and column."""
    image = windows.image
    row, x = divmod(n, windows.columns)
    c, y = divmod(row, windows.rows)
    return c * image.height * image.width, y * windows.down - image.top, x * windows.across - image.left


@part
def pixel(x, bits, windows, first, y, z, outside):
    """Pixel (y, z) of the channel that begins at `first` of a row x; x None: 1 where bits are set."""
    image = windows.image
    if not (0 <= y < image.height and 0 <= z < image.width):
        return outside
    k = first + y * image.width + z
    if x is None:
        return type(outside)(is_set(bits, k))
    return x[k]


@part
def largest(x, bits, windows, n, outside):
    """Eq. (2): the largest number of window n, and its place; outside is -infinity."""
    first, top, left = corner(windows, n)
    best, place = pixel(x, bits, windows, first, top, left, outside), 0
    for i in range(windows.kernel_height):
        for j in range(windows.kernel_width):
            number = pixel(x, bits, windows, first, top + i, left + j, outside)
            if number > best or number != number:  # a NaN is the largest
                best, place = number, i * windows.kernel_width + j
    return best, place


@elementwise(lambda x, bits, windows, out: out.size)
def means(x, bits, windows, out):
    """avg_pool_forward."""
    k = cuda.grid(1)
    if k < out.size:
        row, n = divmod(k, out.shape[2])
        t, b = divmod(row, out.shape[1])
        zero = total = out.dtype.type(0)
        first, top, left = corner(windows, n)
        for i in range(windows.kernel_height):
            for j in range(windows.kernel_width):
                if x is None:
                    total += pixel(None, bits[t, b], windows, first, top + i, left + j, zero)
                else:
                    total += pixel(x[t, b], bits[0, 0], windows, first, top + i, left + j, zero)
        out[t, b, n] = total * (out.dtype.type(1) / out.dtype.type(windows.kernel_height * windows.kernel_width))


def avg_pool_forward(x, bits, windows, room, out):
    """Eq. (1).

    Parameters
    ----------
    x : (T, B, C H W) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(C H W / 64)) uint64, or None beside an x
    windows : Windows
    room :                                           not used
    out : (T, B, C H' W') float                      written in full
    """
    means(x, no_bits() if bits is None else bits, windows, out)


@elementwise(lambda x, bits, windows, out, which: out.size)
def maxima(x, bits, windows, out, which):
    """max_pool_forward."""
    k = cuda.grid(1)
    if k < out.size:
        row, n = divmod(k, out.shape[2])
        t, b = divmod(row, out.shape[1])
        out[t, b, n], which[t, b, n] = largest(x[t, b], bits[0, 0], windows, n, out.dtype.type(-math.inf))


def max_pool_forward(x, windows, room, out, which):
    """Eq. (2): x (T, B, C H W), out and which (T, B, C H' W') float, both written in full; the others as in (1)."""
    maxima(x, no_bits(), windows, out, which)


@kernel
def pack_maxima(bits, windows, out, which):
    """max_pool_spikes, for the windows of a word of out (R, W); bits (R, ceil(C H W / 64)), which (R, C H' W')."""
    halves = cuda.shared.array(2, np.uint32)
    row, w = cuda.blockIdx.x, cuda.blockIdx.y
    if cuda.threadIdx.x < 2:
        halves[cuda.threadIdx.x] = 0
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, min(64, which.shape[1] - 64 * w), cuda.blockDim.x):
        best, which[row, 64 * w + k] = largest(None, bits[row], windows, 64 * w + k, which.dtype.type(-math.inf))
        if best != 0:
            cuda.atomic.or_(halves, k // 32, bit(k))
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        out[row, w] = word_of(halves, 0)


def max_pool_spikes(bits, windows, room, out, which):
    """Eq. (2) of spikes: bits (T, B, ceil(C H W / 64)) and out (T, B, ceil(C H' W' / 64)) uint64, written in full."""
    bits, out, which = flat(bits), flat(out), flat(which)
    pack_maxima.launch(out.shape, min(64, THREADS), bits, windows, out, which)


@elementwise(lambda d, which, windows, dx: dx.size)
def back(d, which, windows, dx):
    """Eq. (3); which None: that of (1)."""
    k = cuda.grid(1)
    if k < dx.size:
        image = windows.image
        row, n = divmod(k, dx.shape[2])
        t, b = divmod(row, dx.shape[1])
        row, column = divmod(n, image.width)
        c, row = divmod(row, image.height)
        share = dx.dtype.type(1) / dx.dtype.type(windows.kernel_height * windows.kernel_width)
        total = dx.dtype.type(0)
        for i in range(windows.kernel_height):
            y, left_over = divmod(row + image.top - i, windows.down)
            if left_over == 0 and 0 <= y < windows.rows:
                for j in range(windows.kernel_width):
                    x, left_over = divmod(column + image.left - j, windows.across)
                    if left_over == 0 and 0 <= x < windows.columns:
                        at = (c * windows.rows + y) * windows.columns + x
                        if which is None:
                            total += share * d[t, b, at]
                        elif np.int64(which[t, b, at]) == i * windows.kernel_width + j:
                            total += d[t, b, at]
        dx[t, b, n] = total


def avg_pool_backward(d, windows, room, dx):
    """Eq. (3) of (1): d (T, B, C H' W'), dx (T, B, C H W) float, written in full; the others as there."""
    back(d, None, windows, dx)


def max_pool_backward(d, which, windows, room, dx):
    """Eq. (3) of (2): d (T, B, C H' W'), dx (T, B, C H W) float, written in full; the others as there."""
    back(d, which, windows, dx)


__all__ = [
    "avg_pool_backward",
    "avg_pool_forward",
    "max_pool_backward",
    "max_pool_forward",
    "max_pool_spikes",
    "pool_windows",
]
