"""Correlations of images with small kernels, stride 1: what conv2d feedback needs.

For a sample x (C, H, W), a weight (C, kh, kw, O) stored with its outputs last, and zeros around x:

    (1) out[o, y, x] += sum_c,i,j W[c, i, j, o] x[c, y + i - kh//2, x + j - kw//2]
    (2) dx            = eq. (1) of d, with W flipped in i and j and its channels swapped
    (3) dW[c, i, j, o] = sum_t,b,y,x x[c, y + i - kh//2, x + j - kw//2] d[o, y, x]
    (4) db[o]          = sum_t,b,y,x d[o, y, x]

A sample is copied into the middle of a larger image of zeros, whose rows end in room for one more vector, so that a row
shifted by (i, j) is a plain load.
"""

import numpy as np

from ._compile import kernel, part
from .vector import BYTES, chosen, fused, lanes, load, load_part, multiplied, ones, store_part, total, zero


def padded_shape(height, width, kernel_height, kernel_width, dtype):
    """The rows and columns of the larger image."""
    return height + kernel_height - 1, width + kernel_width - 1 + BYTES // np.dtype(dtype).itemsize


@part
def bits_from(bits, n):
    """64 bits from number n on; those after the last word are 0."""
    w, shift = n // 64, np.uint64(n % 64)
    word = bits[w] >> shift
    if shift != 0 and w + 1 < bits.shape[0]:
        word |= bits[w + 1] << (np.uint64(64) - shift)
    return word


@part
def fill_plane(bits, x, first, height, width, top, left, plane):
    """Copy the H x W elements from `first` on of a sample into the middle of plane; x None: ones where bits are set."""
    step = lanes(plane[0])
    for y in range(height):
        row = plane[y + top]
        begin = first + y * width
        for c in range(0, width, step):
            at = begin + c
            if x is None:
                store_part(row, left + c, chosen(bits_from(bits, at), ones(row)), width - c)
            else:
                store_part(row, left + c, load_part(x, at, width - c), width - c)


@part
def correlate(padded, weight, height, width, out):
    """Eq. (1): padded (C, Hp, Wp) holds x in its middle; out is a row of O H W."""
    channels, kernel_height, kernel_width, outputs = weight.shape
    step = lanes(out)
    for o in range(0, outputs, 4):
        o1, o2, o3 = min(o + 1, outputs - 1), min(o + 2, outputs - 1), min(o + 3, outputs - 1)
        for y in range(height):
            at, at1, at2, at3 = (
                (o * height + y) * width,
                (o1 * height + y) * width,
                (o2 * height + y) * width,
                (o3 * height + y) * width,
            )
            for c in range(0, width, step):
                left = width - c
                s0, s1 = load_part(out, at + c, left), load_part(out, at1 + c, left)
                s2, s3 = load_part(out, at2 + c, left), load_part(out, at3 + c, left)
                for channel in range(channels):
                    for i in range(kernel_height):
                        row = padded[channel, y + i]
                        for j in range(kernel_width):
                            x = load(row, c + j)
                            s0, s1 = fused(weight[channel, i, j, o], x, s0), fused(weight[channel, i, j, o1], x, s1)
                            s2, s3 = fused(weight[channel, i, j, o2], x, s2), fused(weight[channel, i, j, o3], x, s3)
                store_part(out, at + c, s0, left)
                store_part(out, at1 + c, s1, left)
                store_part(out, at2 + c, s2, left)
                store_part(out, at3 + c, s3, left)


@part
def correlate_sample(bits, x, weight, height, width, padded, out):
    """Eq. (1) for a sample: x, a row of C H W, or None for ones where bits are set."""
    channels, kernel_height, kernel_width, _ = weight.shape
    for channel in range(channels):
        first = channel * height * width
        fill_plane(bits, x, first, height, width, kernel_height // 2, kernel_width // 2, padded[channel])
    correlate(padded, weight, height, width, out)


@kernel(lambda x, bits, d, image, padded, dweight, *_: dweight.shape[0] * dweight.shape[1] + 1)
def conv_backward(begin, end, x, bits, d, image, padded, dweight, dbias, add):
    """Eqs. (3) and (4); an item is a channel c and a row i of the kernel, and the bias is the last one.

    Parameters
    ----------
    x : (T, B, C H W) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(C H W / 64)) uint64       where x is not zero
    d : (T, B, O H W) float
    image : (H, W)
    padded : (C kh, Hp, Wp) float                to work in; zeros outside of the middle
    dweight, dbias : (C, kh, kw, O), (O,) float  added to if add, else written in full
    """
    height, width = image
    _, kernel_height, kernel_width, outputs = dweight.shape
    top, left = kernel_height // 2, kernel_width // 2
    for item in range(begin, end):
        if item == dweight.shape[0] * kernel_height:
            if not add:
                dbias[:] = 0
            for t in range(d.shape[0]):
                for b in range(d.shape[1]):
                    for o in range(outputs):
                        row = d[t, b, o * height * width : (o + 1) * height * width]
                        s = zero(row)
                        for c in range(0, row.shape[0], lanes(row)):
                            s = multiplied(ones(row), load_part(row, c, row.shape[0] - c), s)
                        dbias[o] += total(s)
            continue
        channel, i = item // kernel_height, item % kernel_height
        plane, first = padded[item], channel * height * width
        if not add:
            dweight[channel, i] = 0
        for t in range(d.shape[0]):
            for b in range(d.shape[1]):
                if x is None:
                    fill_plane(bits[t, b], None, first, height, width, top, left, plane)
                else:
                    fill_plane(bits[t, b], x[t, b], first, height, width, top, left, plane)
                row = d[t, b]
                for j in range(kernel_width):
                    for o in range(outputs):
                        s = zero(row)
                        for y in range(height):
                            at = (o * height + y) * width
                            for c in range(0, width, lanes(row)):
                                s = multiplied(load(plane[y + i], c + j), load_part(row, at + c, width - c), s)
                        dweight[channel, i, j, o] += total(s)


__all__ = ["conv_backward", "padded_shape"]
