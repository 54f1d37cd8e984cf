"""Rows in vector registers: 64 bytes of a row, 16 float32 or 8 float64, as one value.

LLVM's own vectorisation of a loop over a row first asks whether its arrays overlap, and keeps sums in memory. A kernel
with a short inner loop says here itself what stays in a register. Any processor runs it; AVX-512 takes a vector whole.

`count` cuts a vector at the end of a row: lanes from count on are not touched, and read as 0.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

BYTES = 64


class Vector(types.Type):
    """As many numbers of a float type as BYTES holds."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _llvm(vector.dtype))


def _llvm(dtype):
    """The LLVM vector of a float type."""
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), _lanes(dtype))


def _lanes(dtype):
    return BYTES * 8 // dtype.bitwidth


def _suffix(dtype):
    """How LLVM's names of functions on vectors and pointers to them end."""
    return f"v{_lanes(dtype)}f{dtype.bitwidth}"


def _pointer(context, builder, array_type, array, index):
    """The address of element index of a row, as one of a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _llvm(array_type.dtype).as_pointer())


def _load(context, builder, array_type, array, index):
    """The vector at element index of a row."""
    pointer = _pointer(context, builder, array_type, array, index)
    return builder.load(pointer, align=array_type.dtype.bitwidth // 8)


def _store(context, builder, array_type, array, index, vector):
    """Put a vector at element index of a row."""
    pointer = _pointer(context, builder, array_type, array, index)
    builder.store(vector, pointer, align=array_type.dtype.bitwidth // 8)


def _mask(builder, dtype, count):
    """Which lanes lie before count."""
    n, index = _lanes(dtype), ir.IntType(dtype.bitwidth)  # as wide as a lane: else there are two vectors to compare
    most = ir.Constant(count.type, n)
    count = builder.select(builder.icmp_signed("<", count, most), count, most)
    lanes = ir.Constant(ir.VectorType(index, n), list(range(n)))
    return builder.icmp_signed("<", lanes, _broadcast(builder, builder.trunc(count, index), n))


def _shuffle(builder, a, b, chosen):
    """The vector of chosen lanes of a, and of b, whose lanes are counted on from those of a."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(chosen)), list(chosen)))


def _broadcast(builder, scalar, n):
    vector = ir.VectorType(scalar.type, n)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, first, ir.Constant(vector, ir.Undefined), [0] * n)


def _fused(builder, dtype, args):
    """a * b + c of three vectors, rounded once."""
    vector = _llvm(dtype)
    return builder.call(_declare(builder, f"llvm.fma.{_suffix(dtype)}", vector, [vector] * 3), args)


def _word(builder, dtype, lanes):
    """A truth value a lane, as the lowest bits of a word."""
    return builder.zext(builder.bitcast(lanes, ir.IntType(_lanes(dtype))), ir.IntType(64))


def _declare(builder, name, returns, arguments):
    """A function of LLVM's."""
    module = builder.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(returns, arguments), name)


@intrinsic
def lanes(typing, row):
    """How many numbers of the row's type a vector holds."""
    n = _lanes(row.dtype)
    return types.intp(row), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), n)


@intrinsic
def load(typing, row, index):
    """The vector at row[index]."""

    def generate(context, builder, signature, args):
        return _load(context, builder, row, *args)

    return Vector(row.dtype)(row, types.intp), generate


@intrinsic
def store(typing, row, index, vector):
    """row[index:] = vector."""

    def generate(context, builder, signature, args):
        _store(context, builder, row, *args)
        return context.get_dummy_value()

    return types.none(row, types.intp, vector), generate


@intrinsic
def load_part(typing, row, index, count):
    """The first count lanes of the vector at row[index]; a number stands for a row that holds it everywhere."""
    if isinstance(row, types.Number):
        return Vector(row)(row, types.intp, types.intp), _filled_part

    def generate(context, builder, signature, args):
        dtype, vector = row.dtype, _llvm(row.dtype)
        mask = _mask(builder, dtype, args[2])
        pointer = _pointer(context, builder, row, args[0], args[1])
        name = f"llvm.masked.load.{_suffix(dtype)}.p0"
        function = _declare(builder, name, vector, [pointer.type, ir.IntType(32), mask.type, vector])
        align = ir.Constant(ir.IntType(32), dtype.bitwidth // 8)
        return builder.call(function, [pointer, align, mask, ir.Constant(vector, None)])

    return Vector(row.dtype)(row, types.intp, types.intp), generate


def _filled_part(context, builder, signature, args):
    """load_part of a number."""
    dtype = signature.args[0]
    filled = _broadcast(builder, args[0], _lanes(dtype))
    return builder.select(_mask(builder, dtype, args[2]), filled, ir.Constant(_llvm(dtype), None))


@intrinsic
def store_part(typing, row, index, vector, count):
    """row[index : index + count] = the first lanes of vector."""

    def generate(context, builder, signature, args):
        dtype = row.dtype
        mask = _mask(builder, dtype, args[3])
        pointer = _pointer(context, builder, row, args[0], args[1])
        name = f"llvm.masked.store.{_suffix(dtype)}.p0"
        function = _declare(builder, name, ir.VoidType(), [args[2].type, pointer.type, ir.IntType(32), mask.type])
        align = ir.Constant(ir.IntType(32), dtype.bitwidth // 8)
        builder.call(function, [args[2], pointer, align, mask])
        return context.get_dummy_value()

    return types.none(row, types.intp, vector, types.intp), generate


@intrinsic
def claim(typing, row, index):
    """Fetch the cache line of row[index], to be written to soon, from where others may have it."""

    def generate(context, builder, signature, args):
        pointer, number = _pointer(context, builder, row, *args), ir.IntType(32)
        function = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer.type] + [number] * 3)
        builder.call(function, [pointer] + [ir.Constant(number, k) for k in (1, 3, 1)])
        return context.get_dummy_value()

    return types.none(row, types.intp), generate


@intrinsic
def add(typing, a, b):
    """a + b."""
    return a(a, b), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def fused(typing, scalar, a, b):
    """scalar * a + b, rounded once."""

    def generate(context, builder, signature, args):
        return _fused(builder, a.dtype, [_broadcast(builder, args[0], _lanes(a.dtype)), args[1], args[2]])

    return a(a.dtype, a, b), generate


@intrinsic
def times(typing, a, b):
    """a * b."""
    return a(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def chosen(typing, bits, vector):
    """The vector, and 0 where the bit of the lane, among the lowest bits of the word, is 0."""

    def generate(context, builder, signature, args):
        n = _lanes(vector.dtype)
        mask = builder.bitcast(builder.trunc(args[0], ir.IntType(n)), ir.VectorType(ir.IntType(1), n))
        return builder.select(mask, args[1], ir.Constant(_llvm(vector.dtype), None))

    return vector(types.uint64, vector), generate


@intrinsic
def above(typing, a, b):
    """The lanes where a > b, as the lowest bits of a word."""

    def generate(context, builder, signature, args):
        return _word(builder, a.dtype, builder.fcmp_ordered(">", *args))

    return types.uint64(a, b), generate


@intrinsic
def differ(typing, a, b):
    """The lanes where a is not b, as the lowest bits of a word."""

    def generate(context, builder, signature, args):
        return _word(builder, a.dtype, builder.fcmp_unordered("!=", *args))

    return types.uint64(a, b), generate


@intrinsic
def ones(typing, row):
    """A vector of ones of the row's type."""
    n = _lanes(row.dtype)
    return Vector(row.dtype)(row), lambda context, builder, signature, args: ir.Constant(_llvm(row.dtype), [1.0] * n)


@intrinsic
def zero(typing, row):
    """A vector of zeros of the row's type."""
    return Vector(row.dtype)(row), lambda context, builder, signature, args: ir.Constant(_llvm(row.dtype), None)


@intrinsic
def filled(typing, row, number):
    """A vector of the row's type with a number in all lanes."""

    def generate(context, builder, signature, args):
        return _broadcast(builder, args[1], _lanes(row.dtype))

    return Vector(row.dtype)(row, row.dtype), generate


@intrinsic(prefer_literal=True)
def room_for(typing, row, count):
    """A row of `count` numbers of the row's type to work in, contents undefined, until the kernel ends."""
    n, array = count.literal_value, types.Array(row.dtype, 1, "C")

    def generate(context, builder, signature, args):
        from numba.np.arrayobj import populate_array  # which takes long to import, and only compiling needs

        number = context.get_data_type(row.dtype)
        memory = cgutils.alloca_once(builder, ir.ArrayType(number, n))
        memory.align = BYTES
        index, size = ir.IntType(64), context.get_abi_sizeof(number)
        made = context.make_array(array)(context, builder)
        populate_array(
            made,
            data=builder.bitcast(memory, number.as_pointer()),
            shape=[ir.Constant(index, n)],
            strides=[ir.Constant(index, size)],
            itemsize=ir.Constant(index, size),
            meminfo=None,
        )
        return made._getvalue()

    return array(row, count), generate


if config.DISABLE_JIT:  # plain Python: a vector is a NumPy array

    class _Lanes(np.ndarray):
        """A vector that rules take: its type, called, makes numbers of it."""

        def __new__(cls, x):
            return np.full(BYTES // np.dtype(cls.kind).itemsize, x, cls.kind).view(cls)

    KINDS = {np.dtype(kind): type("_Lanes", (_Lanes,), {"kind": kind}) for kind in (np.float32, np.float64)}

    def lanes(row):
        return BYTES // row.itemsize

    def room_for(row, count):
        return np.empty(count, row.dtype)

    def zero(row):
        return KINDS[row.dtype](np.zeros(lanes(row)))

    def ones(row):
        return KINDS[row.dtype](np.ones(lanes(row)))

    def filled(row, number):
        vector = zero(row)
        vector[:] = number
        return vector

    def load(row, index):
        return zero(row) + row[index : index + lanes(row)]

    def store(row, index, vector):
        row[index : index + lanes(row)] = vector

    def load_part(row, index, count):
        vector = zero(row)
        part = row[index : index + min(count, len(vector))] if row.ndim else np.full(min(count, len(vector)), row)
        vector[: len(part)] = part
        return vector

    def store_part(row, index, vector, count):
        count = min(count, len(vector))
        row[index : index + count] = vector[:count]

    def claim(row, index):
        pass

    def add(a, b):
        return a + b

    def fused(scalar, a, b):
        return scalar * a + b

    def times(a, b):
        return a * b

    def chosen(bits, vector):
        return np.where([int(bits) >> k & 1 for k in range(len(vector))], vector, vector.dtype.type(0))

    def above(a, b):
        return np.uint64(sum(1 << k for k in np.flatnonzero(a > b).tolist()))

    def differ(a, b):
        return np.uint64(sum(1 << k for k in np.flatnonzero(a != b).tolist()))
