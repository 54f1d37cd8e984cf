"""Tiles: n by m sums in vector registers, so that a vector or a number loaded once serves many products.

A tile is a tuple of n m vectors, those of its first row first; n and m are known when a kernel is compiled.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .vector import Vector, _broadcast, _fused, _lanes, _llvm, _load, _shuffle, _store, lanes, load, store, zero

INDEX = ir.IntType(64)


def _vectors(dtype, count):
    return types.UniTuple(Vector(dtype), count)


def _place(builder, index, k, step):
    """index + k step, k a Python number."""
    return builder.add(index, builder.mul(ir.Constant(INDEX, k), step))


def _number(context, builder, array_type, array, index):
    """The address of element index of a row."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic(prefer_literal=True)
def zeros(typing, row, n, m):
    """A tile of zeros of the row's type."""
    tile = _vectors(row.dtype, n.literal_value * m.literal_value)

    def generate(context, builder, signature, args):
        return context.make_tuple(builder, tile, [ir.Constant(_llvm(row.dtype), None)] * len(tile))

    return tile(row, n, m), generate


@intrinsic(prefer_literal=True)
def load_each(typing, row, index, step, n):
    """The vectors at row[index], row[index + step], ...: n of them."""
    vectors = _vectors(row.dtype, n.literal_value)

    def generate(context, builder, signature, args):
        places = (_place(builder, args[1], k, args[2]) for k in range(len(vectors)))
        return context.make_tuple(builder, vectors, [_load(context, builder, row, args[0], at) for at in places])

    return vectors(row, types.intp, types.intp, n), generate


@intrinsic(prefer_literal=True)
def load_at(typing, row, index, offsets, first, n):
    """The vectors at row[index + offsets[first]], row[index + offsets[first + 1]], ...: n of them."""
    vectors = _vectors(row.dtype, n.literal_value)

    def generate(context, builder, signature, args):
        loaded = []
        for k in range(len(vectors)):
            at = builder.add(args[3], ir.Constant(INDEX, k))
            offset = builder.load(_number(context, builder, offsets, args[2], at))
            loaded.append(_load(context, builder, row, args[0], builder.add(args[1], offset)))
        return context.make_tuple(builder, vectors, loaded)

    return vectors(row, types.intp, offsets, types.intp, n), generate


@intrinsic(prefer_literal=True)
def broadcast_each(typing, row, index, n):
    """The numbers row[index], row[index + 1], ..., n of them, each in all lanes of a vector."""
    vectors = _vectors(row.dtype, n.literal_value)

    def generate(context, builder, signature, args):
        spread_out = []
        for k in range(len(vectors)):
            at = builder.add(args[1], ir.Constant(INDEX, k))
            number = builder.load(_number(context, builder, row, args[0], at))
            spread_out.append(_broadcast(builder, number, _lanes(row.dtype)))
        return context.make_tuple(builder, vectors, spread_out)

    return vectors(row, types.intp, n), generate


@intrinsic
def outer(typing, a, b, tile):
    """The tile with a[i] * b[j] added to its vector (i, j), rounded once."""

    def generate(context, builder, signature, args):
        rows, columns, sums = (cgutils.unpack_tuple(builder, x) for x in args)
        pairs = [(x, y) for x in rows for y in columns]
        added = [_fused(builder, a.dtype.dtype, [x, y, s]) for (x, y), s in zip(pairs, sums, strict=True)]
        return context.make_tuple(builder, tile, added)

    return tile(a, b, tile), generate


@intrinsic(prefer_literal=True)
def store_tile(typing, tile, row, index, down, across, m):
    """row[index + i down + j across:] = vector (i, j) of a tile of m columns."""
    columns = m.literal_value

    def generate(context, builder, signature, args):
        for k, vector in enumerate(cgutils.unpack_tuple(builder, args[0])):
            i, j = divmod(k, columns)
            at = _place(builder, _place(builder, args[2], i, args[3]), j, args[4])
            _store(context, builder, row, args[1], at, vector)
        return context.get_dummy_value()

    return types.none(tile, row, types.intp, types.intp, types.intp, m), generate


@intrinsic
def turn_square(typing, row, index, down, out, place, across):
    """out[place + j across + i] = row[index + i down + j] for i and j below the lanes of a vector.

    Squares of one vector, then two, four, ... that lie beside the diagonal change places, in registers.
    """

    def generate(context, builder, signature, args):
        n, half = _lanes(row.dtype), 1
        tile = [_load(context, builder, row, args[0], _place(builder, args[1], k, args[2])) for k in range(n)]
        while half < n:
            first = [j if j & half == 0 else n + j - half for j in range(n)]
            second = [j + half if j & half == 0 else n + j for j in range(n)]
            for k in (k for k in range(n) if k & half == 0):
                pair = tile[k], tile[k + half]
                tile[k], tile[k + half] = (_shuffle(builder, *pair, chosen) for chosen in (first, second))
            half *= 2
        for k, vector in enumerate(tile):
            _store(context, builder, out, args[3], _place(builder, args[4], k, args[5]), vector)
        return context.get_dummy_value()

    return types.none(row, types.intp, types.intp, out, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def add_totals(typing, tile, row, index, down, m):
    """row[index + i down + j] += the sum of the lanes of vector (i, j) of a tile of m columns, halves by halves."""
    columns = m.literal_value

    def generate(context, builder, signature, args):
        for k, vector in enumerate(cgutils.unpack_tuple(builder, args[0])):
            i, j = divmod(k, columns)
            at = builder.add(_place(builder, args[2], i, args[3]), ir.Constant(INDEX, j))
            pointer = _number(context, builder, row, args[1], at)
            builder.store(builder.fadd(builder.load(pointer), _total(builder, vector)), pointer)
        return context.get_dummy_value()

    return types.none(tile, row, types.intp, types.intp, m), generate


def _total(builder, vector):
    """The sum of the lanes."""
    while (n := vector.type.count) > 1:
        low, high = (_shuffle(builder, vector, vector, range(begin, begin + n // 2)) for begin in (0, n // 2))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


if config.DISABLE_JIT:  # plain Python: a vector is a NumPy array

    def zeros(row, n, m):
        return (zero(row),) * (n * m)

    def load_each(row, index, step, n):
        return tuple(load(row, index + k * step) for k in range(n))

    def load_at(row, index, offsets, first, n):
        return tuple(load(row, index + offset) for offset in offsets[first : first + n])

    def broadcast_each(row, index, n):
        return tuple(x + zero(row) for x in row[index : index + n])

    def outer(a, b, tile):
        pairs = [(x, y) for x in a for y in b]
        return tuple(x * y + s for (x, y), s in zip(pairs, tile, strict=True))

    def store_tile(tile, row, index, down, across, m):
        for k, vector in enumerate(tile):
            store(row, index + k // m * down + k % m * across, vector)

    def turn_square(row, index, down, out, place, across):
        for i in range(lanes(row)):
            for j in range(lanes(row)):
                out[place + j * across + i] = row[index + i * down + j]

    def add_totals(tile, row, index, down, m):
        for k, vector in enumerate(tile):
            while len(vector) > 1:
                vector = vector[: len(vector) // 2] + vector[len(vector) // 2 :]
            row[index + k // m * down + k % m] += vector[0]
