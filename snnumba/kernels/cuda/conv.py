"""Correlations of images with kernels: what Conv2d and conv2d feedback need.

Eqs. (1) to (4) are in kernels/cpu/conv.py. A thread has a number of (1) or (2); in (3) and (4), of a sample's part.
"""

from functools import cache
from typing import NamedTuple

from ..cpu import conv as cpu
from ._driver import cuda, elementwise, part
from .bits import is_set, no_bits

TAPS = 1  # of the (c, i, j): here a thread has one


class Window(NamedTuple):
    """What (1) does with a sample, but for the weights: channels and pixels, kernel size, and how both sides lie."""

    channels: int
    height: int
    width: int
    image: cpu.Planes
    out: cpu.Planes

    @property
    def forward_room(self):
        """Numbers to work in: none are used, but an array has one."""
        return 1

    def backward_room(self, outputs):
        """Numbers to work in, as in (1)."""
        return 1


@cache
def conv_windows(shape, outputs, kernel_size, stride, padding):
    """The windows of (1), (3) and of (2), for samples of a shape (C, H, W); the others are pairs: down, across."""
    forward, back = cpu.conv_windows(shape, outputs, kernel_size, stride, padding)
    taps = [-(-size // step) for size, step in zip(kernel_size, stride, strict=True)]  # of a kernel in a plane
    return (
        Window(forward.channels, *kernel_size, forward.image, forward.out),
        Window(back.channels, *taps, back.image, back.out),
    )


@part
def correlate(x, bits, weight, window, n):
    """Number n of a sample of (1) but for b; x a row of C H W, or None for ones where bits are set.

    weight (C, kh kw, O) here, and in (2) the outputs are the planes of the sample that is made.
    """
    image, out = window.image, window.out
    row, column = divmod(n, out.width)
    o, row = divmod(row, out.height)
    top, a = divmod(row + out.top, out.down)
    left, b = divmod(column + out.left, out.across)
    o = (o * out.down + a) * out.across + b
    top, left = top * image.down - image.top, left * image.across - image.left
    total = weight.dtype.type(0)
    for c in range(window.channels):
        for i in range(max(0, -top), min(window.height, image.height - top)):
            for j in range(max(0, -left), min(window.width, image.width - left)):
                k = (c * image.height + top + i) * image.width + left + j
                if x is None:
                    if is_set(bits, k):
                        total += weight[c, i * window.width + j, o]
                else:
                    total += weight[c, i * window.width + j, o] * x[k]
    return total


def by_taps(weight):
    """A weight (C, kh, kw, ...) as correlate takes it."""
    channels, height, width = weight.shape[:3]
    return weight.reshape(channels, height * width, weight.size // (channels * height * width))


@elementwise(lambda x, bits, weight, bias, window, out: out.size)
def correlate_all(x, bits, weight, bias, window, out):
    """conv_forward, with a weight by_taps."""
    k = cuda.grid(1)
    if k < out.size:
        row, n = divmod(k, out.shape[2])
        t, b = divmod(row, out.shape[1])
        if x is None:
            total = correlate(None, bits[t, b], weight, window, n)
        else:
            total = correlate(x[t, b], bits[0, 0], weight, window, n)
        if bias is not None:
            total += bias[n // (out.shape[2] // bias.shape[0])]
        out[t, b, n] = total


def conv_forward(x, bits, weight, bias, window, room, out):
    """Eq. (1), and (2) by its own window and weight.

    Parameters
    ----------
    x : (T, B, C H W) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(C H W / 64)) uint64, or None beside an x
    weight : (C, kh, kw, O) float; for (2) parameters.flip's (O, kh', kw', C, s, s)
    bias : (O,) float, or None
    window : Window
    room :                                           not used
    out : (T, B, O Ho Wo) float                      written in full
    """
    correlate_all(x, no_bits() if bits is None else bits, by_taps(weight), bias, window, out)


@elementwise(lambda x, bits, d, window, dweight, dbias, add_to: dweight.size + dbias.size)
def add_products(x, bits, d, window, dweight, dbias, add_to):
    """Eqs. (3) and (4) for each sample: a thread has a number of dweight, and then of dbias."""
    k = cuda.grid(1)
    image, out = window.image, window.out
    outputs = dbias.shape[1]
    if k >= dweight.size + dbias.size:
        return
    is_bias = k >= dweight.size
    total = d.dtype.type(0)
    if is_bias:
        b, o = divmod(k - dweight.size, outputs)
        for t in range(d.shape[0]):
            for n in range(o * out.height * out.width, (o + 1) * out.height * out.width):
                total += d[t, b, n]
        dbias[b, o] = dbias[b, o] + total if add_to else total
    else:
        b, place = divmod(k, dweight.shape[1])
        tap, o = divmod(place, outputs)
        row, j = divmod(tap, window.width)
        c, i = divmod(row, window.height)
        for t in range(d.shape[0]):
            for y in range(out.height):
                row = y * image.down + i - image.top
                for z in range(out.width):
                    column = z * image.across + j - image.left
                    if 0 <= row < image.height and 0 <= column < image.width:
                        n = (c * image.height + row) * image.width + column
                        given = d[t, b, (o * out.height + y) * out.width + z]
                        if x is None:
                            if is_set(bits[t, b], n):
                                total += given
                        else:
                            total += x[t, b, n] * given
        dweight[b, place] = dweight[b, place] + total if add_to else total


def conv_backward(x, bits, d, window, room, dweight, dbias, add_to):
    """Eqs. (3) and (4) for each sample.

    Parameters
    ----------
    x, bits, window : as in conv_forward
    d : (T, B, O Ho Wo) float
    room :                                           not used
    dweight, dbias : (B, C kh kw O), (B, O) float    written in full, or added to if add_to
    """
    add_products(x, no_bits() if bits is None else bits, d, window, dweight, dbias, add_to)


@elementwise(lambda partial, total, add_to: total.shape[0])
def sum_blocks(partial, total, add_to):
    """total (N,) = the sum of partial (blocks, N or more) over blocks, or more by it."""
    n = cuda.grid(1)
    if n < total.shape[0]:
        mine = total[n] if add_to else total.dtype.type(0)
        for block in range(partial.shape[0]):
            mine += partial[block, n]
        total[n] = mine


__all__ = ["TAPS", "conv_backward", "conv_forward", "conv_windows", "sum_blocks"]
