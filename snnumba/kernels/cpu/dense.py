"""Products with a weight matrix, (1) forward and (2)-(4) backward; rows r are samples, or samples at every step.

    (1) out[r] = x[r] W + b
    (2) dW     = sum_r x[r]^T d[r]
    (3) db     = sum_r d[r]
    (4) dx[r]  = d[r] W^T

Weights lie as (inputs, outputs), so that one active input adds one row. With pixels and spikes most inputs are zero:
(1) and (2) are sums over the others, found by their bits (see bits.py). (4) is dense.
"""

from ._compile import kernel, part
from .bits import ONE, add_rows, add_scaled_rows, clip, lowest, pack_nonzero, popcount


@kernel(lambda x, *_: x.shape[0])
def linear_forward(begin, end, x, weight, bias, out, active):
    """Eq. (1) for any x.

    Parameters
    ----------
    x : (R, I) float
    weight, bias : (I, O), (O,) float
    out : (R, O) float                     written in full
    active : (R, ceil(I/64)) uint64        written in full: where x is not zero
    """
    for r in range(begin, end):
        pack_nonzero(x[r], active[r])
        out[r] = bias
        add_scaled_rows(active[r], x[r], weight, out[r])


@kernel(lambda spk, *_: spk.shape[0])
def linear_forward_spikes(begin, end, spk, weight, bias, out):
    """Eq. (1) for spikes: spk (R, ceil(I/64)) uint64, weight (I, O), bias (O,), out (R, O) written in full."""
    for r in range(begin, end):
        out[r] = bias
        add_rows(spk[r], weight, out[r])


@part
def clear(dweight, dbias, begin, end):
    """Zero the rows [begin, end) of dweight, where the row after the last is dbias."""
    inputs = dweight.shape[0]
    dweight[begin : min(end, inputs)] = 0
    if end > inputs:
        dbias[:] = 0


@kernel(lambda x, *_: x.shape[1] + 1, grain=16)
def linear_backward(begin, end, x, active, d, dweight, dbias, add):
    """Eqs. (2) and (3) for any x; an item is an input, and the bias is the last one.

    Parameters
    ----------
    x, active : as linear_forward left them
    d : (R, O) float
    dweight, dbias : (I, O), (O,) float    added to if add, else written in full
    """
    inputs = x.shape[1]
    if not add:
        clear(dweight, dbias, begin, end)
    for r in range(x.shape[0]):
        dr = d[r]
        for w in range(begin // 64, (min(end, inputs) + 63) // 64):
            word = clip(active[r, w], 64 * w, begin, end)
            for _ in range(popcount(word)):
                i = 64 * w + lowest(word)
                word &= word - ONE
                value = x[r, i]
                for n in range(dr.shape[0]):
                    dweight[i, n] += value * dr[n]
        if end > inputs:
            for n in range(dr.shape[0]):
                dbias[n] += dr[n]


@kernel(lambda spk, d, dweight, *_: dweight.shape[0] + 1, grain=16)
def linear_backward_spikes(begin, end, spk, d, dweight, dbias, add):
    """Eqs. (2) and (3) for spikes (R, ceil(I/64)) uint64; the rest as in linear_backward."""
    inputs = dweight.shape[0]
    if not add:
        clear(dweight, dbias, begin, end)
    for r in range(d.shape[0]):
        dr = d[r]
        for w in range(begin // 64, (min(end, inputs) + 63) // 64):
            word = clip(spk[r, w], 64 * w, begin, end)
            for _ in range(popcount(word)):
                i = 64 * w + lowest(word)
                word &= word - ONE
                for n in range(dr.shape[0]):
                    dweight[i, n] += dr[n]
        if end > inputs:
            for n in range(dr.shape[0]):
                dbias[n] += dr[n]


@part
def product(a, b, out, begin, end):
    """out[r] = a[r] b for rows [begin, end), four rows by four terms at a time; b (K, N), begin a multiple of 4."""
    terms, width = b.shape
    for r in range(begin, end - 3, 4):
        out0, out1, out2, out3 = out[r], out[r + 1], out[r + 2], out[r + 3]
        for n in range(width):
            out0[n] = out1[n] = out2[n] = out3[n] = 0
        for k in range(0, terms - 3, 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            a00, a01, a02, a03 = a[r, k], a[r, k + 1], a[r, k + 2], a[r, k + 3]
            a10, a11, a12, a13 = a[r + 1, k], a[r + 1, k + 1], a[r + 1, k + 2], a[r + 1, k + 3]
            a20, a21, a22, a23 = a[r + 2, k], a[r + 2, k + 1], a[r + 2, k + 2], a[r + 2, k + 3]
            a30, a31, a32, a33 = a[r + 3, k], a[r + 3, k + 1], a[r + 3, k + 2], a[r + 3, k + 3]
            for n in range(width):
                p, q, s, t = b0[n], b1[n], b2[n], b3[n]
                out0[n] = out0[n] + a00 * p + a01 * q + a02 * s + a03 * t
                out1[n] = out1[n] + a10 * p + a11 * q + a12 * s + a13 * t
                out2[n] = out2[n] + a20 * p + a21 * q + a22 * s + a23 * t
                out3[n] = out3[n] + a30 * p + a31 * q + a32 * s + a33 * t
        for k in range(terms - terms % 4, terms):
            for row in range(r, r + 4):
                for n in range(width):
                    out[row, n] += a[row, k] * b[k, n]
    for r in range(end - end % 4, end):
        out[r] = 0
        for k in range(terms):
            for n in range(width):
                out[r, n] += a[r, k] * b[k, n]


@kernel(lambda d, *_: d.shape[0], grain=16)
def linear_backward_input(begin, end, d, weight, dx):
    """Eq. (4): d (R, O), weight (O, I) transposed, dx (R, I) written in full."""
    product(d, weight, dx, begin, end)


@kernel(lambda d, *_: d.shape[1], grain=16)
def sum_over_time(begin, end, d, out):
    """out[b] = sum_t d[t, b]: what a current that is constant in time gets back; d (T, B, N), out (B, N)."""
    for b in range(begin, end):
        out[b] = d[0, b]
        for t in range(1, d.shape[0]):
            for n in range(d.shape[2]):
                out[b, n] += d[t, b, n]


@kernel(lambda a, *_: a.shape[0], grain=16)
def transpose(begin, end, a, out):
    """out = a^T, in squares that stay in cache; a (I, O), out (O, I) written in full."""
    for first in range(begin, end, 16):
        for left in range(0, a.shape[1], 16):
            for i in range(first, min(first + 16, end)):
                for j in range(left, min(left + 16, a.shape[1])):
                    out[j, i] = a[i, j]


__all__ = [
    "linear_backward",
    "linear_backward_input",
    "linear_backward_spikes",
    "linear_forward",
    "linear_forward_spikes",
    "sum_over_time",
    "transpose",
]
