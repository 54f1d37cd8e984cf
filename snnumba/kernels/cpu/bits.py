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
from .vector import (
    _declare,
    _shuffle,
    above,
    add,
    chosen,
    differ,
    filled,
    fused,
    lanes,
    load,
    load_part,
    ones,
    room_for,
    store,
    store_part,
    times,
    zero,
)

ONE = np.uint64(1)
ZERO = np.uint64(0)
NEAR = 65 * 64  # numbers of 64 rows, four vectors of float32 each, or of FEW times 65, one vector each
FEW = 4  # words of elements whose rows, of one vector each, all stay in the first cache
FAR = 1 << 16  # numbers of a table that the second cache does not hold beside all else
MANY = 256  # rows whose words are gathered at a time
ENOUGH = 16  # rows to be worth bringing parts of a table near


def num_words(n: int) -> int:
    """How many 64-bit words hold one bit for each of n elements."""
    return -(-n // 64)


if config.DISABLE_JIT:  # plain Python has neither instruction

    def lowest(word):
        """The index of the lowest set bit of a word; 64 of 0."""
        return (int(word) & -int(word)).bit_length() - 1 if word else 64

    def without_lowest(word):
        """The word without its lowest set bit; 0 of 0."""
        return word & (word - ONE) if word else word

    def popcount(word):
        """The number of set bits of a word."""
        return int(word).bit_count()

    def turn(words):
        """Bit k of word r becomes bit r of word k, of 64 words."""
        square = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(64, 64)
        words[:] = np.packbits(square.T, bitorder="little").view(np.uint64)

else:

    @intrinsic
    def lowest(typing, word):
        """The index of the lowest set bit of a word; 64 of 0."""
        return types.intp(types.uint64), lambda context, builder, signature, args: builder.cttz(
            args[0], ir.Constant(ir.IntType(1), 0)
        )

    @intrinsic
    def without_lowest(typing, word):
        """The word without its lowest set bit; 0 of 0."""

        def generate(context, builder, signature, args):
            return builder.and_(args[0], builder.sub(args[0], ir.Constant(args[0].type, 1)))

        return types.uint64(types.uint64), generate

    @intrinsic
    def popcount(typing, word):
        """The number of set bits of a word."""
        return types.intp(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])

    @intrinsic
    def turn(typing, words):
        """Bit k of word r becomes bit r of word k, of 64 words.

        Halves of the words change places with halves of words 32 from them, then halves of these with those of words
        16 from them, and so on; in eight vectors of eight words, between vectors and at last within each.
        Source: Warren 2012, Hacker's Delight, 7-3.
        """

        def generate(context, builder, signature, args):
            kind = ir.VectorType(ir.IntType(64), 8)
            data = builder.bitcast(context.make_array(words)(context, builder, args[0]).data, kind.as_pointer())
            places = [builder.gep(data, [ir.Constant(ir.IntType(64), k)]) for k in range(8)]
            vectors = [builder.load(place, align=8) for place in places]
            for apart in (4, 2, 1):
                own = _halves(8 * apart)
                for k in (k for k in range(8) if k & apart == 0):
                    a, b = vectors[k], vectors[k + apart]
                    vectors[k] = _mix(builder, [own] * 8, a, builder.shl(b, _words([8 * apart] * 8)))
                    vectors[k + apart] = _mix(builder, [~own] * 8, b, builder.lshr(a, _words([8 * apart] * 8)))
            for apart in (4, 2, 1):
                first = [k & apart == 0 for k in range(8)]  # of two words that change halves
                own = [_halves(apart) if k else ~_halves(apart) for k in first]
                turns = _words([apart if k else 64 - apart for k in first])
                rotate = _declare(builder, "llvm.fshl.v8i64", kind, [kind] * 3)
                for k, vector in enumerate(vectors):
                    other = _shuffle(builder, vector, vector, [k ^ apart for k in range(8)])
                    vectors[k] = _mix(builder, own, vector, builder.call(rotate, [other, other, turns]))
            for place, vector in zip(places, vectors, strict=True):
                builder.store(vector, place, align=8)
            return context.get_dummy_value()

        return types.none(words), generate

    def _words(numbers):
        """A vector of words."""
        return ir.Constant(ir.VectorType(ir.IntType(64), 8), [number % (1 << 64) for number in numbers])

    def _halves(size):
        """A word whose lowest bits are 1, so many of them, the next as many 0, and so on."""
        return sum(((1 << size) - 1) << k for k in range(0, 64, 2 * size))

    def _mix(builder, own, a, b):
        """A vector of a's bits where those of `own`, a number for each word, are 1, and of b's elsewhere."""
        kept = builder.and_(a, _words(own))
        return builder.or_(kept, builder.and_(b, _words([~word for word in own])))


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
def store_part4(rows, r0, r1, r2, r3, v0, v1, v2, v3, count):
    """A vector, cut, into each of four rows."""
    store_part(rows[r0], 0, v0, count)
    store_part(rows[r1], 0, v1, count)
    store_part(rows[r2], 0, v2, count)
    store_part(rows[r3], 0, v3, count)


@part
def copy_row(x, out):
    """out = x."""
    n, width = out.shape[0], lanes(out)
    for c in range(0, n, width):
        store_part(out, c, load_part(x, c, n - c), n - c)


@part
def load4(row, c, width):
    """Four vectors of a row, from row[c] on."""
    return load(row, c), load(row, c + width), load(row, c + 2 * width), load(row, c + 3 * width)


@part
def add8(bits, x, table, words, c, width, o0, o1, o2, o3, o4, o5, o6, o7):
    """add_rows for eight vectors from column c on: what out, o0 to o7, becomes."""
    for w in words:
        word = bits[w]
        while word != 0:
            i = 64 * w + lowest(word)
            word = without_lowest(word)
            r0, r1, r2, r3 = load4(table[i], c, width)
            r4, r5, r6, r7 = load4(table[i], c + 4 * width, width)
            if x is None:
                o0, o1, o2, o3 = add(o0, r0), add(o1, r1), add(o2, r2), add(o3, r3)
                o4, o5, o6, o7 = add(o4, r4), add(o5, r5), add(o6, r6), add(o7, r7)
            else:
                xi = x[i]
                o0, o1, o2, o3 = fused(xi, r0, o0), fused(xi, r1, o1), fused(xi, r2, o2), fused(xi, r3, o3)
                o4, o5, o6, o7 = fused(xi, r4, o4), fused(xi, r5, o5), fused(xi, r6, o6), fused(xi, r7, o7)
    return o0, o1, o2, o3, o4, o5, o6, o7


@part
def three_after(r, end):
    """r + 1, r + 2 and r + 3, or the last row before end in their place."""
    return min(r + 1, end - 1), min(r + 2, end - 1), min(r + 3, end - 1)


@part
def add_rows(bits, x, table, words, out, n):
    """out += sum_i x[i] table[i] over the elements i that some words of the bits choose, in order; x None: all are 1.

    For the first n columns: eight vectors of out, 128 float32, are in registers at a time, then one.
    """
    c, width = 0, lanes(out)
    while c + 8 * width <= n:
        o0, o1, o2, o3 = load4(out, c, width)
        o4, o5, o6, o7 = load4(out, c + 4 * width, width)
        o0, o1, o2, o3, o4, o5, o6, o7 = add8(bits, x, table, words, c, width, o0, o1, o2, o3, o4, o5, o6, o7)
        store4(out, c, width, o0, o1, o2, o3)
        store4(out, c + 4 * width, width, o4, o5, o6, o7)
        c += 8 * width
    while c < n:
        o0 = load_part(out, c, n - c)
        for w in words:
            word = bits[w]
            while word != 0:
                i = 64 * w + lowest(word)
                word = without_lowest(word)
                row = load_part(table[i], c, n - c)
                o0 = add(o0, row) if x is None else fused(x[i], row, o0)
        store_part(out, c, o0, n - c)
        c += width


@part
def bring_near(table, first, step, count, c, near):
    """Copy rows first + step r of a table, `count` of them, 64 at most, to where they stay in the first cache.

    Four vectors of each from column c on, at 4 r vectors; or one, cut, at r vectors, where fewer are left: then row 64
    is of what changes no sum, -0.
    """
    n, width = table.shape[1], lanes(near)
    if c + 4 * width <= n:
        for r in range(count):
            store4(near, 4 * width * r, width, *load4(table[first + step * r], c, width))
    else:
        for r in range(count):
            store(near, width * r, load_part(table[first + step * r], c, n - c))
        store(near, width * 64, filled(near, near.dtype.type(-0.0)))


@part
def add_all_rows(bits, x, table, words, out):
    """out[r] += sum_i x[r, i] table[i] over the elements i that some words of bits[r] choose, as add_rows does.

    For columns that fill no eight vectors, and all of a large table, all rows r take of 64 rows before they go on to
    the next.
    """
    rows, n = out.shape
    near, gathered, width = room_for(table[0], NEAR), room_for(bits[0], MANY), lanes(table[0])
    c = n if rows < ENOUGH else n - n % (8 * width) if table.size < FAR else 0
    for r in range(rows if c > 0 else 0):
        if x is None:
            add_rows(bits[r], None, table, words, out[r], c)
        else:
            add_rows(bits[r], x[r], table, words, out[r], c)
    while c < n:
        wide = c + 4 * width <= n
        for w in words:
            base = 64 * w
            bring_near(table, base, 1, min(table.shape[0] - base, 64), c, near)
            for low in range(0, rows, MANY):
                high = min(low + MANY, rows)
                for r in range(low, high):
                    gathered[r - low] = bits[r, w]
                if x is None:
                    add_words(None, gathered, 0, 0, 0, high - low, near, c, out[low:high])
                else:
                    turned = x[low:high, ::-1].T
                    add_words(turned, gathered, table.shape[0] - 1 - base, 0, 0, high - low, near, c, out[low:high])
        c += 4 * width if wide else width


@part
def add_words(x, words, last, base, begin, end, d, c, table):
    """add_outer or add_narrow, whichever column c asks for."""
    if c + 4 * lanes(d) <= table.shape[1]:
        add_outer(x, words, last, base, begin, end, d, c, lanes(d), table)
    else:
        add_narrow(x, words, last, base, begin, end, d, c, lanes(d), table)


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
        o0, o1, o2, o3 = load4(row, c, width)
        while word != 0:
            r = lowest(word)
            word = without_lowest(word)
            d0, d1, d2, d3 = load4(d, 4 * width * r, width)
            if x is None:
                o0, o1, o2, o3 = add(o0, d0), add(o1, d1), add(o2, d2), add(o3, d3)
            else:
                xr = x[last - r, base + k]
                o0, o1, o2, o3 = fused(xr, d0, o0), fused(xr, d1, o1), fused(xr, d2, o2), fused(xr, d3, o3)
        store4(row, c, width, o0, o1, o2, o3)


@part
def add_narrow(x, words, last, base, begin, end, d, c, width, table):
    """add_outer for one vector, cut at the end of the row.

    Where fewer than four rows i are left, the last is done more than once.
    """
    left = table.shape[1] - c
    for k in range(begin - base, end - base, 4):
        k1, k2, k3 = three_after(k, end - base)
        s0, s1, s2, s3 = table[base + k], table[base + k1], table[base + k2], table[base + k3]
        o0, o1, o2, o3 = load_part(s0, c, left), load_part(s1, c, left), load_part(s2, c, left), load_part(s3, c, left)
        w0, w1, w2, w3 = words[k], words[k1], words[k2], words[k3]
        i0, i1, i2, i3 = base + k, base + k1, base + k2, base + k3
        o0, o1, o2, o3 = add_next4(x, w0, w1, w2, w3, last, i0, i1, i2, i3, d, width, o0, o1, o2, o3)
        store_part(s0, c, o0, left)
        store_part(s1, c, o1, left)
        store_part(s2, c, o2, left)
        store_part(s3, c, o3, left)


@part
def add_next(x, word, last, i, d, width, out):
    """out + x[last - r, i] d[r], r the lowest set bit of the word, or 64; x None: 1."""
    r = lowest(word)
    row = load(d, width * r)
    if x is None:
        return add(out, row)
    xr = x[last - (r & 63), i]
    return fused(xr if word != 0 else x.dtype.type(0), row, out)


@part
def add_next4(x, w0, w1, w2, w3, last, i0, i1, i2, i3, d, width, o0, o1, o2, o3):
    """add_next, for four words until they have no set bits.

    They take a step together, as how many bits a word has is not foreseen: one that has no more adds row 64 of d, which
    adds nothing.
    """
    while w0 | w1 | w2 | w3 != 0:
        o0, o1 = add_next(x, w0, last, i0, d, width, o0), add_next(x, w1, last, i1, d, width, o1)
        o2, o3 = add_next(x, w2, last, i2, d, width, o2), add_next(x, w3, last, i3, d, width, o3)
        w0, w1, w2, w3 = without_lowest(w0), without_lowest(w1), without_lowest(w2), without_lowest(w3)
    return o0, o1, o2, o3


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


@kernel(lambda bits, *_: bits.shape[1], grain=16)
def count_bits(begin, end, bits, counts):
    """counts[b] = how many bits of sample b are set; bits (T, B, W) uint64, counts (B,) int64."""
    for b in range(begin, end):
        counts[b] = 0
        for t in range(bits.shape[0]):
            for w in range(bits.shape[2]):
                counts[b] += popcount(bits[t, b, w])


__all__ = ["count_bits", "count_spikes", "num_words", "scale_neurons", "unpack"]
