"""Pooling of images: of each window of each channel, the mean or the largest number.

For windows of kh x kw pixels, a stride s and p pixels around the image:

    (1) out[c, y, x] = 1/(kh kw) sum_i,j x[c, y s + i - p, x s + j - p]            0 around the image
    (2) out[c, y, x] = max_i,j x[c, y s + i - p, x s + j - p]                      -infinity around the image
        which[c, y, x] = i kw + j of the largest                                   the first of equals
    (3) dx[c, y s + i - p, x s + j - p] += w d[c, y, x] over all c, y, x, i, j     (1): w = 1/(kh kw)
                                                                                   (2): w = [i kw + j = which[c, y, x]]

Samples of spikes, and those with something around, are first copied; then a row of windows is read vector by vector.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from ._compile import kernel, part
from .bits import copy_row, pack_nonzero
from .conv import NO_BITS, Planes, fill
from .dense import BLOCK
from .every import add_every, blend, load_every
from .vector import above, add, chosen, differ, filled, fused, lanes, load_part, store_part, zero


class Windows(NamedTuple):
    """Where the windows are: of a kernel's size, every `down` rows and `across` columns of images.

    image : Planes              how an image lies in what is around it
    around : bool               whether there is anything
    height, width : int         of the image with it
    rows, columns : int         windows
    """

    channels: int
    image: Planes
    around: bool
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    down: int
    across: int
    rows: int
    columns: int

    @property
    def room(self) -> int:
        """Numbers that a kernel needs to work in: a sample with what is around it, and what is made of it."""
        return self.channels * (self.height * self.width + self.rows * self.columns)


@cache
def pool_windows(shape, kernel_size, stride, padding):
    """The windows of samples of a shape (C, H, W); the others are pairs: down, across."""
    channels, *image = shape
    size = [image[k] + 2 * padding[k] for k in range(2)]
    made = [(size[k] - kernel_size[k]) // stride[k] + 1 for k in range(2)]
    return Windows(channels, Planes(*image, 1, 1, *padding), any(padding), *size, *kernel_size, *stride, *made)


@part
def with_around(bits, x, windows, number, room):
    """A sample with a number around it, in room if need be; x None: ones where bits are set."""
    plane = windows.height * windows.width
    if windows.around:
        room[: windows.channels * plane] = number
    elif x is not None:
        return x
    fill(bits, x, windows.image, windows.channels, windows.width, plane, room)
    return room


@part
def mean_rows(x, windows, out):
    """Eq. (1) of a sample."""
    share = out.dtype.type(1) / out.dtype.type(windows.kernel_height * windows.kernel_width)
    for c, y in np.ndindex(windows.channels, windows.rows):
        row, top = c * windows.rows + y, c * windows.height + y * windows.down
        for n in range(0, windows.columns, lanes(out)):
            count = windows.columns - n
            total = zero(out)
            for i in range(windows.kernel_height):
                for j in range(windows.kernel_width):
                    at = (top + i) * windows.width + n * windows.across + j
                    total = add(total, load_every(x, at, windows.across, count))
            store_part(out, row * windows.columns + n, fused(share, total, zero(out)), count)


@part
def max_rows(x, windows, out, which):
    """Eq. (2) of a sample."""
    for c, y in np.ndindex(windows.channels, windows.rows):
        row, top = c * windows.rows + y, c * windows.height + y * windows.down
        for n in range(0, windows.columns, lanes(out)):
            count = windows.columns - n
            best = load_every(x, top * windows.width + n * windows.across, windows.across, count)
            place = zero(out)
            for i in range(windows.kernel_height):
                for j in range(windows.kernel_width):
                    at = (top + i) * windows.width + n * windows.across + j
                    number = load_every(x, at, windows.across, count)
                    better = above(number, best) | differ(number, number)  # a NaN is the largest
                    best = blend(better, number, best)
                    place = blend(better, filled(out, out.dtype.type(i * windows.kernel_width + j)), place)
            store_part(out, row * windows.columns + n, best, count)
            store_part(which, row * windows.columns + n, place, count)


@part
def add_back(d, which, windows, dx):
    """Eq. (3) of a sample; which None: that of (1).

    Rows go innermost: what was stored a moment ago is not yet to be had.
    """
    share = dx.dtype.type(1) / dx.dtype.type(windows.kernel_height * windows.kernel_width)
    for i in range(windows.kernel_height):
        for j in range(windows.kernel_width):
            place = filled(dx, dx.dtype.type(i * windows.kernel_width + j))
            for c, y in np.ndindex(windows.channels, windows.rows):
                row, top = c * windows.rows + y, c * windows.height + y * windows.down
                for n in range(0, windows.columns, lanes(dx)):
                    at, count = row * windows.columns + n, windows.columns - n
                    each = load_part(d, at, count)
                    if which is None:
                        each = fused(share, each, zero(dx))
                    else:
                        each = chosen(~differ(load_part(which, at, count), place), each)
                    add_every(dx, (top + i) * windows.width + n * windows.across + j, windows.across, each, count)


@part
def back(d, which, windows, room, dx):
    """dx = eq. (3) of a sample."""
    if not windows.around:
        dx[:] = 0
        add_back(d, which, windows, dx)
    else:
        room[:] = 0
        add_back(d, which, windows, room)
        height, width, _, _, top, left = windows.image
        for c in range(windows.channels):
            for y in range(height):
                at = (c * windows.height + y + top) * windows.width + left
                copy_row(room[at:], dx[(c * height + y) * width : (c * height + y + 1) * width])


@kernel(lambda x, bits, windows, room, out: out.shape[1], grain=BLOCK)
def avg_pool_forward(begin, end, x, bits, windows, room, out):
    """Eq. (1).

    Parameters
    ----------
    x : (T, B, C H W) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(C H W / 64)) uint64, or None beside an x
    windows : Windows
    room : (ceil(B/BLOCK), windows.room) float       to work in
    out : (T, B, C H' W') float                      written in full
    """
    for b in range(begin, end):
        for t in range(out.shape[0]):
            here = room[b // BLOCK]
            if x is not None:
                mean_rows(with_around(NO_BITS, x[t, b], windows, 0, here), windows, out[t, b])
            elif bits is not None:  # or there is none to compile for
                mean_rows(with_around(bits[t, b], None, windows, 0, here), windows, out[t, b])


@kernel(lambda d, windows, room, dx: dx.shape[1], grain=BLOCK)
def avg_pool_backward(begin, end, d, windows, room, dx):
    """Eq. (3) of (1): d (T, B, C H' W'), dx (T, B, C H W) float, written in full; the others as there."""
    for b in range(begin, end):
        for t in range(dx.shape[0]):
            back(d[t, b], None, windows, room[b // BLOCK], dx[t, b])


@kernel(lambda x, windows, room, out, which: out.shape[1], grain=BLOCK)
def max_pool_forward(begin, end, x, windows, room, out, which):
    """Eq. (2): x (T, B, C H W), out and which (T, B, C H' W') float, both written in full; the others as in (1)."""
    for b in range(begin, end):
        for t in range(out.shape[0]):
            sample = with_around(NO_BITS, x[t, b], windows, -np.inf, room[b // BLOCK])
            max_rows(sample, windows, out[t, b], which[t, b])


@kernel(lambda bits, windows, room, out, which: out.shape[1], grain=BLOCK)
def max_pool_spikes(begin, end, bits, windows, room, out, which):
    """Eq. (2) of spikes: bits (T, B, ceil(C H W / 64)) and out (T, B, ceil(C H' W' / 64)) uint64, written in full."""
    for b in range(begin, end):
        for t in range(out.shape[0]):
            sample = with_around(bits[t, b], None, windows, -np.inf, room[b // BLOCK])
            made = room[b // BLOCK, room.shape[1] - which.shape[2] :]
            max_rows(sample, windows, made, which[t, b])
            pack_nonzero(made, out[t, b])


@kernel(lambda d, which, windows, room, dx: dx.shape[1], grain=BLOCK)
def max_pool_backward(begin, end, d, which, windows, room, dx):
    """Eq. (3) of (2): d (T, B, C H' W'), dx (T, B, C H W) float, written in full; the others as there."""
    for b in range(begin, end):
        for t in range(dx.shape[0]):
            back(d[t, b], which[t, b], windows, room[b // BLOCK], dx[t, b])


__all__ = [
    "avg_pool_backward",
    "avg_pool_forward",
    "max_pool_backward",
    "max_pool_forward",
    "max_pool_spikes",
    "pool_windows",
]
