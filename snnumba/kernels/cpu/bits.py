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
def clip(word, first, begin, end):
    """The word whose bit 0 stands for element first, without the elements outside [begin, end)."""
    if begin > first:
        word = word >> np.uint64(begin - first) << np.uint64(begin - first)
    if end < first + 64:
        word = word << np.uint64(first + 64 - end) >> np.uint64(first + 64 - end)
    return word


@part
def pack_above(x, threshold, bits):
    """Set the bits where x > threshold, elementwise; x and threshold are rows."""
    n = x.shape[0]
    for w in range(bits.shape[0]):
        word = ZERO
        for k in range(min(64, n - 64 * w)):
            word |= np.uint64(x[64 * w + k] > threshold[64 * w + k]) << np.uint64(k)
        bits[w] = word


@part
def pack_nonzero(x, bits):
    """Set the bits where the row x is not 0."""
    n = x.shape[0]
    for w in range(bits.shape[0]):
        word = ZERO
        for k in range(min(64, n - 64 * w)):
            word |= np.uint64(x[64 * w + k] != 0) << np.uint64(k)
        bits[w] = word


@part
def add_rows(bits, table, out):
    """out += the rows of table that the bits choose, four at a time so that out is read and written less."""
    for w in range(bits.shape[0]):
        word = bits[w]
        first = 64 * w
        count = popcount(word)
        for _ in range(count // 4):
            i = first + lowest(word)
            word &= word - ONE
            j = first + lowest(word)
            word &= word - ONE
            k = first + lowest(word)
            word &= word - ONE
            m = first + lowest(word)
            word &= word - ONE
            for n in range(out.shape[0]):
                out[n] += (table[i, n] + table[j, n]) + (table[k, n] + table[m, n])
        for _ in range(count % 4):
            i = first + lowest(word)
            word &= word - ONE
            for n in range(out.shape[0]):
                out[n] += table[i, n]


@part
def add_scaled_rows(bits, x, table, out):
    """out += x[i] table[i] over the elements i that the bits choose."""
    for w in range(bits.shape[0]):
        word = bits[w]
        first = 64 * w
        count = popcount(word)
        for _ in range(count // 4):
            i = first + lowest(word)
            word &= word - ONE
            j = first + lowest(word)
            word &= word - ONE
            k = first + lowest(word)
            word &= word - ONE
            m = first + lowest(word)
            word &= word - ONE
            for n in range(out.shape[0]):
                out[n] += x[i] * table[i, n] + x[j] * table[j, n] + (x[k] * table[k, n] + x[m] * table[m, n])
        for _ in range(count % 4):
            i = first + lowest(word)
            word &= word - ONE
            for n in range(out.shape[0]):
                out[n] += x[i] * table[i, n]


@kernel(lambda bits, *_: bits.shape[0], grain=1024)
def unpack(begin, end, bits, out):
    """out[r, n] = bit n of row r, as 0 or 1; bits (R, ceil(N/64)) uint64, out (R, N) float."""
    for r in range(begin, end):
        for n in range(out.shape[1]):
            out[r, n] = (bits[r, n // 64] >> np.uint64(n % 64)) & ONE


@kernel(lambda bits, *_: bits.shape[0], grain=4096)
def count_bits(begin, end, bits, counts):
    """counts[r] = number of bits set in row r; bits (R, W) uint64, counts (R,) int64."""
    for r in range(begin, end):
        counts[r] = 0
        for w in range(bits.shape[1]):
            counts[r] += popcount(bits[r, w])


__all__ = ["count_bits", "num_words", "unpack"]
