"""Events as bits: which elements of a row are not zero, one bit each.

A row of N elements has ceil(N / 64) words; bit k of word w stands for element 64 w + k. In shared memory a word is two
halves of 32 bits, the lower first, since a thread sets its bit there by an atomic `or`, which is native for 32.
"""

import numpy as np

from ..cpu.bits import num_words
from ._driver import SIMULATED, THREADS, cuda, elementwise, kernel, part, scratch
from ._sums import total_of

SUMS = (THREADS,)

if SIMULATED:  # the simulator gives neither instruction to a 64-bit word

    def lowest(word):
        """The index of the lowest set bit of a word that is not 0."""
        return (int(word) & -int(word)).bit_length() - 1

    def popcount(word):
        """The number of set bits of a word."""
        return int(word).bit_count()

else:

    @part
    def lowest(word):  # pragma: no cover - runs on a GPU alone
        """The index of the lowest set bit of a word that is not 0."""
        return cuda.ffs(word) - 1

    @part
    def popcount(word):  # pragma: no cover - runs on a GPU alone
        """The number of set bits of a word."""
        return cuda.popc(word)


@part
def is_set(row, n):
    """Whether bit n of a row of words is set."""
    return row[n // 64] & word_bit(n) != 0


@part
def word_bit(n):
    """The bit of element n in its word."""
    return np.uint64(1) << np.uint64(n % 64)


@part
def bit(n):
    """The bit of element n in its half of a word."""
    return np.uint32(np.uint32(1) << np.uint32(n % 32))


@part
def without_lowest(half):
    """Half a word without its lowest set bit."""
    return np.uint32(half & (half - np.uint32(1)))


@part
def word_of(halves, w):
    """Word w of a row in shared memory."""
    return np.uint64(halves[2 * w]) | np.uint64(halves[2 * w + 1]) << np.uint64(32)


def no_bits():
    """An array where bits are to be, and nobody reads them."""
    return scratch("no bits", (1, 1, 1), np.uint64)


@elementwise(lambda bits, factor, out: out.size)
def unpack(bits, factor, out):
    """out[t, b, n] = bit n of row (t, b), as 0 or 1, times factor[n] if it is not None.

    bits (T, B, ceil(N/64)) uint64, factor None or (N,) float, out (T, B, N) float, written in full.
    """
    i = cuda.grid(1)
    if i < out.size:
        row, n = divmod(i, out.shape[2])
        t, b = divmod(row, out.shape[1])
        x = out.dtype.type(is_set(bits[t, b], n))
        out[t, b, n] = x if factor is None else x * factor[n]


@elementwise(lambda bits, counts: counts.size)
def count_spikes(bits, counts):
    """counts[b, n] = how often neuron n of sample b spiked; bits (T, B, ceil(N/64)) uint64, counts (B, N) float."""
    i = cuda.grid(1)
    if i < counts.size:
        b, n = divmod(i, counts.shape[1])
        count = 0
        for t in range(bits.shape[0]):
            count += is_set(bits[t, b], n)
        counts[b, n] = count


@elementwise(lambda x, factor, out: out.size)
def scale_neurons(x, factor, out):
    """out[t, b, n] = x[t, b, n] factor[n]; x, out (T, B, N) float, factor (N,) float."""
    i = cuda.grid(1)
    if i < out.size:
        row, n = divmod(i, out.shape[2])
        t, b = divmod(row, out.shape[1])
        out[t, b, n] = x[t, b, n] * factor[n]


@kernel
def count_sample(bits, counts):
    """count_bits, of the sample of this block."""
    shared = cuda.shared.array(SUMS, np.int64)
    thread, b, words = cuda.threadIdx.x, cuda.blockIdx.x, bits.shape[2]
    total = 0
    for e in range(thread, bits.shape[0] * words, cuda.blockDim.x):
        total += popcount(bits[e // words, b, e % words])
    total = total_of(total, shared)
    if thread == 0:
        counts[b] = total


def count_bits(bits, counts):
    """counts[b] = how many bits of sample b are set; bits (T, B, W) uint64, counts (B,) int64."""
    count_sample.launch(counts.shape[0], THREADS, bits, counts)


__all__ = ["count_bits", "count_spikes", "num_words", "scale_neurons", "unpack"]
