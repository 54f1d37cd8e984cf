"""Correlations of images with kernels: what Conv2d and conv2d feedback need.

For a sample x (C, H, W), a weight (C, kh, kw, O) stored with its outputs last, a stride s and p zeros around x:

    (1) out[o, y, x]   = b[o] + sum_c,i,j W[c, i, j, o] x[c, y s + i - p, x s + j - p]
    (2) dx[c, y, x]    = sum_o,i,j W[c, i, j, o] d[o, (y + p - i) / s, (x + p - j) / s]      where these are whole
    (3) dW[c, i, j, o] = sum_t,b,y,x x[c, y s + i - p, x s + j - p] d[o, y, x]
    (4) db[o]          = sum_t,b,y,x d[o, y, x]

A channel is shared out to s^2 planes, every s-th row and column to one, so that in planes the stride is 1. The planes
of a sample are read as one long row: each (c, i, j) is an offset in it, and (1) and (3) are products of matrices, of
which the sums that begin in the zeros between two rows of an image are not used. (2) is (1) of d, with W flipped
and its outputs the planes of dx.
"""

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ._compile import kernel, part
from .bits import ONE
from .dense import BLOCK
from .tile import add_totals, broadcast_each, load_at, load_each, outer, store_tile, zeros
from .vector import add, chosen, lanes, load_part, ones, store_part, zero

NO_BITS = np.zeros(1, np.uint64)  # where a sample is one of floats
TAPS = 4  # of the (c, i, j), together in (3)
OUTPUTS = 4  # together
SPAN = 32  # numbers of the smaller type in two vectors, which (1) has together
LONG = 1024  # numbers that make a long row long enough for the sums of the lanes of a tile not to matter


class Planes(NamedTuple):
    """How the pixels (height, width) of a channel lie in planes: (y, x) is pixel ((y + top) // down, (x + left) //
    across) of plane ((y + top) % down, (x + left) % across)."""

    height: int
    width: int
    down: int = 1
    across: int = 1
    top: int = 0
    left: int = 0


class Window(NamedTuple):
    """What (1) does with a sample, but for the weights.

    channels : int           of what is read
    image, out : Planes      of that, and of what the sums are
    rows, columns : int      sums of an output
    pitch : int              numbers in a row of the planes that are read
    plane : int              numbers in such a plane
    size : int               and in all of a sample, and some more that are read in vain
    span : int               sums of an output in the long row, in whole tiles
    together : int           samples that (3) has in one long row
    offsets : (C kh kw + TAPS,) int64       where each (c, i, j) is read in the long row for sum 0; then TAPS times 0
    """

    channels: int
    image: Planes
    out: Planes
    rows: int
    columns: int
    pitch: int
    plane: int
    size: int
    span: int
    together: int
    offsets: Any

    @property
    def forward_room(self):
        """Numbers that (1) needs to work in: the planes of a sample, and sums of a few outputs."""
        return self.size + OUTPUTS * self.span

    def backward_room(self, outputs):
        """Numbers that (3) needs to work in: the planes of a few samples, and d with zeros between its rows."""
        return self.together * (self.size + outputs * self.span)


def _window(channels, kernel_size, image, out, rows, columns):
    """The window for kernels (kh, kw) on an image cut into planes by the stride."""
    kh, kw = kernel_size
    pitch = columns + (kw - 1) // image.across
    plane = (rows + (kh - 1) // image.down) * pitch
    c, i, j = np.ogrid[:channels, :kh, :kw]
    place = (c * image.down + i % image.down) * image.across + j % image.across
    offsets = place * plane + i // image.down * pitch + j // image.across
    span = -(-rows * pitch // SPAN) * SPAN
    offsets = np.append(offsets.ravel(), np.zeros(TAPS, np.int64))
    size = -(-(channels * image.down * image.across * plane + kw + SPAN) // SPAN) * SPAN
    together = min(max(LONG // span, 1), BLOCK)
    return Window(channels, image, out, rows, columns, pitch, plane, size, span, together, offsets)


@cache
def conv_windows(shape, outputs, kernel_size, stride, padding):
    """The windows of (1), (3) and of (2), for samples of a shape (C, H, W); the others are pairs: down, across."""
    (channels, *image), axes = shape, range(2)
    made = [(image[k] + 2 * padding[k] - kernel_size[k]) // stride[k] + 1 for k in axes]
    forward = _window(channels, kernel_size, Planes(*image, *stride, *padding), Planes(*made), *made)
    taps = [-(-kernel_size[k] // stride[k]) for k in axes]  # of a kernel in a plane
    first = [padding[k] // stride[k] for k in axes]  # row and column of a plane with a pixel of x
    count = [(image[k] - 1 + padding[k]) // stride[k] + 1 - first[k] for k in axes]
    before = [taps[k] - 1 - first[k] for k in axes]
    rest = [padding[k] % stride[k] for k in axes]
    back = _window(outputs, taps, Planes(*made, 1, 1, *before), Planes(*image, *stride, *rest), *count)
    return forward, back


@part
def bits_from(bits, n):
    """64 bits from number n on; those after the last word are 0."""
    w, shift = n // 64, np.uint64(n % 64)
    word = bits[w] >> shift
    if shift != 0 and w + 1 < bits.shape[0]:
        word |= bits[w + 1] << (np.uint64(64) - shift)
    return word


@part
def fill(bits, x, image, channels, pitch, plane, planes):
    """Copy a sample into planes of zeros, but for what is outside of them; x None: ones where bits are set."""
    height, width, down, across, top, left = image
    step, rows = lanes(planes), plane // pitch
    for c in range(channels):
        for a in range(down):
            for row in range(rows):
                y = row * down + a - top
                if y < 0 or y >= height:
                    continue
                first, at = (c * height + y) * width, (c * down + a) * across * plane + row * pitch
                if across == 1:
                    for k in range(0, width, 64):
                        if x is None:
                            word = bits_from(bits, first + k)
                        for n in range(k, min(k + 64, width), step):
                            if x is None:
                                vector = chosen(word >> np.uint64(n - k), ones(planes))
                            else:
                                vector = load_part(x, first + n, width - n)
                            store_part(planes, at + left + n, vector, width - n)
                else:
                    for b in range(across):
                        for k in range(pitch):
                            n = k * across + b - left
                            if n >= 0 and n < width:
                                pixel = bits_from(bits, first + n) & ONE if x is None else x[first + n]
                                planes[at + b * plane + k] = pixel


@part
def add_sums(sums, window, output, out):
    """out += the sums of an output, a plane of out."""
    height, width, down, across, top, left = window.out
    c, a, b = output // (down * across), output // across % down, output % across
    for row in range(window.rows):
        y = row * down + a - top
        if y < 0 or y >= height:
            continue
        first, at = (c * height + y) * width, row * window.pitch
        if across == 1:
            for n in range(0, width, lanes(out)):
                vector = add(load_part(out, first + n, width - n), load_part(sums, at + left + n, width - n))
                store_part(out, first + n, vector, width - n)
        else:
            for k in range(window.columns):
                n = k * across + b - left
                if n >= 0 and n < width:
                    out[first + n] += sums[at + k]


@part
def sums_of(planes, offsets, weight, output, outputs, span, sums, many):
    """The sums of many outputs, literally so many, from `output` on."""
    many = numba.literally(many)
    step = lanes(planes)
    for p in range(0, span, 2 * step):
        tile = zeros(planes, 2, many)
        for k in range(offsets.shape[0] - TAPS):
            at = p + offsets[k]
            tile = outer(load_each(planes, at, step, 2), broadcast_each(weight, k * outputs + output, many), tile)
        store_tile(tile, sums, p, step, span, many)


@part
def correlate(window, weight, room, out):
    """Eq. (1) but for b, from planes."""
    sums, offsets, span = room[window.size :], window.offsets, window.span
    outputs = weight.shape[0] // (offsets.shape[0] - TAPS)
    for o in range(0, outputs, OUTPUTS):
        many = min(OUTPUTS, outputs - o)
        if many == 4:
            sums_of(room, offsets, weight, o, outputs, span, sums, 4)
        elif many == 3:
            sums_of(room, offsets, weight, o, outputs, span, sums, 3)
        elif many == 2:
            sums_of(room, offsets, weight, o, outputs, span, sums, 2)
        else:
            sums_of(room, offsets, weight, o, outputs, span, sums, 1)
        for k in range(many):
            add_sums(sums[k * span :], window, o + k, out)


@part
def correlate_sample(bits, x, weight, window, room, out):
    """out += eq. (1) but for b, of a sample x, a row of C H W, or None for ones where bits are set."""
    fill(bits, x, window.image, window.channels, window.pitch, window.plane, room)
    correlate(window, weight.reshape(-1), room, out)


@kernel(lambda x, bits, weight, bias, window, room, out: out.shape[1], grain=BLOCK)
def conv_forward(begin, end, x, bits, weight, bias, window, room, out):
    """Eq. (1), and (2) by its own window and weight.

    Parameters
    ----------
    x : (T, B, C H W) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(C H W / 64)) uint64, or None beside an x
    weight : (C, kh, kw, O) float; for (2) parameters.flip's (O, kh', kw', C, s, s)
    bias : (O,) float, or None
    window : Window
    room : (ceil(B/BLOCK), forward_room) float       to work in; zeros at first, and other windows have others
    out : (T, B, O Ho Wo) float                      written in full
    """
    for b in range(begin, end):
        for t in range(out.shape[0]):
            y = out[t, b]
            if bias is None:
                y[:] = 0
            else:
                for o in range(bias.shape[0]):
                    each = y.shape[0] // bias.shape[0]
                    y[o * each : (o + 1) * each] = bias[o]
            if x is not None:
                correlate_sample(NO_BITS, x[t, b], weight, window, room[b // BLOCK], y)
            elif bits is not None:  # or there is none to compile for
                correlate_sample(bits[t, b], None, weight, window, room[b // BLOCK], y)


@part
def add_products(planes, window, tap, d, output, outputs, samples, dweight, many):
    """Eq. (3) for TAPS of (c, i, j) and many outputs, literally so many."""
    many = numba.literally(many)
    tile = zeros(planes, TAPS, many)
    for k in range(samples):
        for p in range(0, window.span, lanes(planes)):
            x = load_at(planes, k * window.size + p, window.offsets, tap, TAPS)
            each = load_each(d, (k * outputs + output) * window.span + p, window.span, many)
            tile = outer(x, each, tile)
    add_totals(tile, dweight, tap * outputs + output, outputs, many)


@kernel(lambda x, bits, d, *_: d.shape[1], grain=BLOCK)
def conv_backward(begin, end, x, bits, d, window, room, dweight, dbias, add_to):
    """Eqs. (3) and (4) for each block of samples.

    Parameters
    ----------
    x, bits, window : as in conv_forward
    d : (T, B, O Ho Wo) float
    room : (ceil(B/BLOCK), backward_room) float      as in conv_forward
    dweight, dbias : (ceil(B/BLOCK), (C kh kw, up to a multiple of TAPS) O), (ceil(B/BLOCK), O) float      written in
        full, or added to if add_to
    """
    outputs, size, span = dbias.shape[1], window.size, window.span
    each = d.shape[2] // outputs
    for first in range(begin, end, BLOCK):
        block = first // BLOCK
        planes, long_d = room[block], room[block, window.together * size :]
        weights = dweight[block]
        if not add_to:
            dweight[block] = 0
            dbias[block] = 0
        for t in range(d.shape[0] - 1, -1, -1):  # as in dense.py
            for low in range(first, min(first + BLOCK, end), window.together):
                samples = min(window.together, first + BLOCK - low, end - low)
                for k in range(samples):
                    b, here = low + k, planes[k * size :]
                    if x is not None:
                        fill(NO_BITS, x[t, b], window.image, window.channels, window.pitch, window.plane, here)
                    elif bits is not None:
                        fill(bits[t, b], None, window.image, window.channels, window.pitch, window.plane, here)
                    fill(NO_BITS, d[t, b], window.out, outputs, window.pitch, span, long_d[k * outputs * span :])
                    for o in range(outputs):
                        row = d[t, b, o * each : (o + 1) * each]
                        s = zero(row)
                        for c in range(0, each, lanes(row)):
                            s = add(load_part(row, c, each - c), s)
                        add_totals((s,), dbias[block], o, 0, 1)
                for tap in range(0, window.offsets.shape[0] - TAPS, TAPS):
                    for o in range(0, outputs, OUTPUTS):
                        many = min(OUTPUTS, outputs - o)
                        if many == 4:
                            add_products(planes, window, tap, long_d, o, outputs, samples, weights, 4)
                        elif many == 3:
                            add_products(planes, window, tap, long_d, o, outputs, samples, weights, 3)
                        elif many == 2:
                            add_products(planes, window, tap, long_d, o, outputs, samples, weights, 2)
                        else:
                            add_products(planes, window, tap, long_d, o, outputs, samples, weights, 1)


@kernel(lambda partial, total, add_to: total.shape[0], grain=4096)
def sum_blocks(begin, end, partial, total, add_to):
    """total (N,) = the sum of partial (blocks, N or more) over blocks, or more by it."""
    out = total[begin:end]
    if not add_to:
        out[:] = 0
    for block in range(partial.shape[0]):
        row = partial[block, begin:end]
        for n in range(out.shape[0]):
            out[n] += row[n]


__all__ = ["TAPS", "conv_backward", "conv_forward", "conv_windows", "sum_blocks"]
