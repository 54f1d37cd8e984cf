"""Vectors of every k-th number of a row, what a window that moves over an image sees.

Numbers with one left out between them are shuffled out of two vectors; those farther apart are taken one by one.
"""

from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ._compile import part
from .vector import _lanes, _llvm, _shuffle, add, lanes, load_part, store_part, zero


@intrinsic
def evens(typing, a, b):
    """Lanes 0, 2, 4, ... of a and then of b."""
    n = _lanes(a.dtype)
    return a(a, b), lambda context, builder, signature, args: _shuffle(builder, *args, range(0, 2 * n, 2))


@intrinsic(prefer_literal=True)
def apart(typing, vector, upper):
    """The lower or upper half of the lanes, a 0 after each."""
    n = _lanes(vector.dtype)
    begin = upper.literal_value * n // 2
    order = [begin + k // 2 if k % 2 == 0 else n for k in range(n)]

    def generate(context, builder, signature, args):
        return _shuffle(builder, args[0], ir.Constant(_llvm(vector.dtype), None), order)

    return vector(vector, upper), generate


@intrinsic
def lane(typing, vector, k):
    """Lane k."""
    return vector.dtype(vector, types.intp), lambda context, builder, signature, args: builder.extract_element(*args)


@intrinsic
def with_lane(typing, vector, k, number):
    """The vector with a number in lane k."""

    def generate(context, builder, signature, args):
        return builder.insert_element(args[0], args[2], args[1])

    return vector(vector, types.intp, vector.dtype), generate


@intrinsic
def blend(typing, bits, a, b):
    """a in the lanes whose bit, among the lowest of the word, is 1, and b in the others."""

    def generate(context, builder, signature, args):
        n = _lanes(a.dtype)
        mask = builder.bitcast(builder.trunc(args[0], ir.IntType(n)), ir.VectorType(ir.IntType(1), n))
        return builder.select(mask, args[1], args[2])

    return a(types.uint64, a, b), generate


if config.DISABLE_JIT:  # plain Python: a vector is a NumPy array
    import numpy as np

    def evens(a, b):
        return np.concatenate([a, b])[::2]

    def apart(vector, upper):
        n = len(vector)
        spaced = np.zeros(2 * n, vector.dtype)
        spaced[::2] = vector
        return spaced[upper * n : (upper + 1) * n]

    def lane(vector, k):
        return vector[k]

    def with_lane(vector, k, number):
        vector[k] = number
        return vector

    def blend(bits, a, b):
        return np.where([int(bits) >> k & 1 for k in range(len(a))], a, b)


@part
def load_every(row, index, step, count):
    """row[index], row[index + step], ...: count of them, or as many as a vector holds; then zeros."""
    if step == 1:
        return load_part(row, index, count)
    if step == 2:
        span, width = 2 * count - 1, lanes(row)
        second = load_part(row, index + width, span - width) if span > width else zero(row)
        return evens(load_part(row, index, span), second)
    vector = zero(row)
    for k in range(min(count, lanes(row))):
        vector = with_lane(vector, k, row[index + k * step])
    return vector


@part
def add_every(row, index, step, vector, count):
    """Add the first lanes, count of them or all, to row[index], row[index + step], ..."""
    if step == 1:
        store_part(row, index, add(load_part(row, index, count), vector), count)
    elif step == 2:
        span, width = 2 * count - 1, lanes(row)
        store_part(row, index, add(load_part(row, index, span), apart(vector, 0)), span)
        if span > width:
            second = add(load_part(row, index + width, span - width), apart(vector, 1))
            store_part(row, index + width, second, span - width)
    else:
        for k in range(min(count, lanes(row))):
            row[index + k * step] += lane(vector, k)
