"""Events as bits: which elements of a row are not zero, one bit each, and sums over the rows that they choose.

A row of N elements has ceil(N / 64) words; bit k of word w stands for element 64 w + k. A spike is a bit, and a product
of spikes with a weight matrix is a sum of its rows, which costs as much as there are spikes.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ._compile import kernel, part
from .vector import above, add, chosen, differ, fused, lanes, load, load_part, ones, store, store_part, times, zero

ONE = np.uint64(1)
ZERO = np.uint64(0)


def num_words(n: int) -> int:
    """How many 64-bit words hold one bit for each of n elements."""
    return -(-n // 64)


if config.DISABLE_JIT:  # plain Python has neither instruction

    def lowest(word):
        """The index of the lowest set bit of a word that is not 0."""
        return (int(word) & -int(word)).bit_length() - 1

    def popcount(word):
        """The number of set bits of a word."""
        return int(word).bit_count()

else:

    @intrinsic
    def lowest(typing, word):
        """The index of the lowest set bit of a word that is not 0."""
        return types.intp(types.uint64), lambda context, builder, signature, args: builder.cttz(
            args[0], ir.Constant(ir.IntType(1), 1)
        )

    @intrinsic
    def popcount(typing, word):
        """The number of set bits of a word."""
        return types.intp(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@part
def turn(words):
    """Bit k of word r becomes bit r of word k, of 64 words: halves change places, then halves of these, and so on.

    Source: Warren 2012, Hacker's Delight, 7-3.
    """
    j, low = 32, np.uint64(0xFFFFFFFF)
    while j > 0:
        for first in range(0, 64, 2 * j):
            for k in range(first, first + j):
                changed = ((words[k] >> np.uint64(j)) ^ words[k + j]) & low
                words[k] ^= changed << np.uint64(j)
                words[k + j] ^= changed
        j //= 2
        low ^= low << np.uint64(j)


@part
def pack_above(x, threshold, bits):
    """Set the bits where x > threshold, elementwise; x and threshold are rows."""
    n, width = x.shape[0], lanes(x)
    for w in range(bits.shape[0]):
        word = ZERO
        for c in range(64 * w, min(64 * w + 64, n), width):
            word |= above(load_part(x, c, n - c), load_part(threshold, c, n - c)) << np.uint64(c - 64 * w)
        bits[w] = word


@part
def pack_nonzero(x, bits):
    """Set the bits where the row x is not 0."""
    n, width = x.shape[0], lanes(x)
    for w in range(bits.shape[0]):
        word = ZERO
        for c in range(64 * w, min(64 * w + 64, n), width):
            word |= differ(load_part(x, c, n - c), zero(x)) << np.uint64(c - 64 * w)
        bits[w] = word


@part
def keep_nonzero(x, bits):
    """Clear the bits where the row x is 0."""
    n, width = x.shape[0], lanes(x)
    for w in range(bits.shape[0]):
        word = ZERO
        for c in range(64 * w, min(64 * w + 64, n), width):
            word |= differ(load_part(x, c, n - c), zero(x)) << np.uint64(c - 64 * w)
        bits[w] &= word


@part
def store4(row, c, width, v0, v1, v2, v3):
    """Four vectors into a row, from row[c] on."""
    store(row, c, v0)
    store(row, c + width, v1)
    store(row, c + 2 * width, v2)
    store(row, c + 3 * width, v3)


@part
def copy_row(x, out):
    """out = x."""
    for n in range(out.shape[0]):
        out[n] = x[n]


@part
def add_rows(bits, x, table, out):
    """out += sum_i x[i] table[i] over the elements i that the bits choose, in order; x None: all are 1.

    Eight vectors of out, 128 float32, are in registers at a time, then one.
    """
    n, width = out.shape[0], lanes(out)
    c = 0
    while c + 8 * width <= n:
        c1, c2, c3 = c + width, c + 2 * width, c + 3 * width
        c4, c5, c6, c7 = c + 4 * width, c + 5 * width, c + 6 * width, c + 7 * width
        o0, o1, o2, o3 = load(out, c), load(out, c1), load(out, c2), load(out, c3)
        o4, o5, o6, o7 = load(out, c4), load(out, c5), load(out, c6), load(out, c7)
        for w in range(bits.shape[0]):
            word = bits[w]
            while word != 0:
                i = 64 * w + lowest(word)
                word &= word - ONE
                row = table[i]
                r0, r1, r2, r3 = load(row, c), load(row, c1), load(row, c2), load(row, c3)
                r4, r5, r6, r7 = load(row, c4), load(row, c5), load(row, c6), load(row, c7)
                if x is None:
                    o0, o1, o2, o3 = add(o0, r0), add(o1, r1), add(o2, r2), add(o3, r3)
                    o4, o5, o6, o7 = add(o4, r4), add(o5, r5), add(o6, r6), add(o7, r7)
                else:
                    xi = x[i]
                    o0, o1, o2, o3 = fused(xi, r0, o0), fused(xi, r1, o1), fused(xi, r2, o2), fused(xi, r3, o3)
                    o4, o5, o6, o7 = fused(xi, r4, o4), fused(xi, r5, o5), fused(xi, r6, o6), fused(xi, r7, o7)
        store4(out, c, width, o0, o1, o2, o3)
        store4(out, c4, width, o4, o5, o6, o7)
        c += 8 * width
    while c < n:
        o0 = load_part(out, c, n - c)
        for w in range(bits.shape[0]):
            word = bits[w]
            while word != 0:
                i = 64 * w + lowest(word)
                word &= word - ONE
                row = load_part(table[i], c, n - c)
                o0 = add(o0, row) if x is None else fused(x[i], row, o0)
        store_part(out, c, o0, n - c)
        c += width


@part
def add_chosen_lanes(bits, x, row, out, c, count):
    """add_chosen for `count` elements from c on."""
    product = load_part(row, c, count)
    if x is not None:
        product = times(product, load_part(x, c, count))
    product = chosen(bits[c // 64] >> np.uint64(c % 64), product)
    store_part(out, c, add(load_part(out, c, count), product), count)


@part
def add_chosen(bits, x, row, out):
    """out += x row elementwise, over the elements that the bits choose; x None: all are 1."""
    n, width = out.shape[0], lanes(out)
    whole = n - n % width
    for c in range(0, whole, width):
        add_chosen_lanes(bits, x, row, out, c, width)
    if whole < n:
        add_chosen_lanes(bits, x, row, out, whole, n - whole)


@part
def add_outer(x, words, last, base, begin, end, d, c, width, table):
    """table[i] += sum_r x[last - r, i] d[r] over 64 rows, in order, for i in [begin, end): four vectors from column c.

    Bit r of words[i - base] chooses; x None: all are 1. d holds these vectors of one row after the other.
    """
    for k in range(begin - base, end - base):
        word = words[k]
        if word == 0:
            continue
        row = table[base + k]
        c1, c2, c3 = c + width, c + 2 * width, c + 3 * width
        o0, o1, o2, o3 = load(row, c), load(row, c1), load(row, c2), load(row, c3)
        while word != 0:
            r = lowest(word)
            word &= word - ONE
            at = 4 * width * r
            d0, d1 = load(d, at), load(d, at + width)
            d2, d3 = load(d, at + 2 * width), load(d, at + 3 * width)
            if x is None:
                o0, o1, o2, o3 = add(o0, d0), add(o1, d1), add(o2, d2), add(o3, d3)
            else:
                xr = x[last - r, base + k]
                o0, o1, o2, o3 = fused(xr, d0, o0), fused(xr, d1, o1), fused(xr, d2, o2), fused(xr, d3, o3)
        store4(row, c, width, o0, o1, o2, o3)


@part
def add_narrow(x, words, last, base, begin, end, d, c, width, table):
    """add_outer for one vector, cut at the end of the row."""
    left = table.shape[1] - c
    for k in range(begin - base, end - base):
        word = words[k]
        if word == 0:
            continue
        row = table[base + k]
        o0 = load_part(row, c, left)
        while word != 0:
            r = lowest(word)
            word &= word - ONE
            d0 = load(d, width * r)
            o0 = add(o0, d0) if x is None else fused(x[last - r, base + k], d0, o0)
        store_part(row, c, o0, left)


@part
def unpack_lanes(bits, factor, row, c, count):
    """unpack for `count` elements of a row from c on."""
    value = ones(row) if factor is None else load_part(factor, c, count)
    store_part(row, c, chosen(bits[c // 64] >> np.uint64(c % 64), value), count)


@kernel(lambda bits, *_: bits.shape[1], grain=16)
def unpack(begin, end, bits, factor, out):
    """out[t, b, n] = bit n of row (t, b), as 0 or 1, times factor[n] if it is not None.

    bits (T, B, ceil(N/64)) uint64, factor None or (N,) float, out (T, B, N) float, written in full.
    """
    for t in range(bits.shape[0]):  # outside, for memory to be written in long runs
        for b in range(begin, end):
            row = out[t, b]
            n, width = row.shape[0], lanes(row)
            whole = n - n % width
            for c in range(0, whole, width):
                unpack_lanes(bits[t, b], factor, row, c, width)
            if whole < n:
                unpack_lanes(bits[t, b], factor, row, whole, n - whole)


@kernel(lambda bits, *_: bits.shape[1], grain=16)
def count_spikes(begin, end, bits, counts):
    """counts[b, n] = how often neuron n of sample b spiked; bits (T, B, ceil(N/64)) uint64, counts (B, N) float."""
    for b in range(begin, end):
        row = counts[b]
        for c in range(0, row.shape[0], lanes(row)):
            count = zero(row)
            for t in range(bits.shape[0]):
                count = add(count, chosen(bits[t, b, c // 64] >> np.uint64(c % 64), ones(row)))
            store_part(row, c, count, row.shape[0] - c)


@kernel(lambda x, *_: x.shape[1], grain=16)
def scale_neurons(begin, end, x, factor, out):
    """out[t, b, n] = x[t, b, n] factor[n]; x, out (T, B, N) float, factor (N,) float."""
    for b in range(begin, end):
        for t in range(x.shape[0]):
            for n in range(x.shape[2]):
                out[t, b, n] = x[t, b, n] * factor[n]


@kernel(lambda bits, *_: bits.shape[1], grain=4096)
def count_bits(begin, end, bits, counts):
    """counts[b] = how many bits of sample b are set; bits (T, B, W) uint64, counts (B,) int64."""
    for b in range(begin, end):
        counts[b] = 0
        for t in range(bits.shape[0]):
            for w in range(bits.shape[2]):
                counts[b] += popcount(bits[t, b, w])


__all__ = ["count_bits", "count_spikes", "num_words", "scale_neurons", "unpack"]
