"""Instructions of a thread that Numba has no words for, and Python that stands for them in the simulator.

A copy to shared memory is under way while its thread goes on: commit() closes a group of copies, and wait(n) waits for
all groups but the last n. A fragment is the thread's own: a local array whose indices the compiler knows, in registers.
mma is a product of a warp, D (16, 8) += A (16, 8) B (8, 8), of numbers rounded to tf32; lane l has, l = 4 g + h,

    A[g, h], A[g + 8, h], A[g, h + 4], A[g + 8, h + 4]    B[h, g], B[h + 4, g]    D[g, 2 h + (0, 1)], D[g + 8, ...]

Source: PTX ISA 8.5, sections 9.7.8.24 (cp.async) and 9.7.14 (mma).
"""

import threading

import numpy as np

from ._driver import SIMULATED, cuda, intrinsic, part

QUAD = 4  # numbers of a vector

if SIMULATED:
    _thread = threading.local()  # its groups of copies under way: the last one is not closed

    def _groups():
        if not hasattr(_thread, "groups"):
            _thread.groups = [[]]
        return _thread.groups

    def copier(count):
        """The copy of so many neighbours, number `at` of all and on, to a row of shared memory; zeros if not live."""

        def copy(to, k, j, source, at, live):
            r, c = divmod(at, source.shape[1])
            for q in range(count):
                _groups()[-1].append((to, k, j + q, source[r, c + q] if live else 0))

        return copy

    def commit():
        """Close a group of copies."""
        _groups().append([])

    def waiter(count):
        """The wait for all groups of copies but the last `count` ones that are closed."""

        def wait():
            while len(_groups()) > count + 1:
                for to, k, j, value in _groups().pop(0):
                    to[k, j] = value

        return wait

    def loader(count):
        """fragment[at:] = so many numbers of row k from j on, which is a multiple of their number."""

        def load(fragment, at, source, k, j):
            fragment[at : at + count] = source[k, j : j + count]

        return load

    def storer(count):
        """The other way: to row r from c on."""

        def store(fragment, at, to, r, c):
            for q in range(count):
                to[r, c + q] = fragment[at + q]

        return store

    def tf32(x):
        """x rounded to 10 bits after the point, ties away from 0."""
        return ((np.float32(x).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)

    def mma(a, m, b, n, sums, i, below):
        """D += A B: A in a[m : m + 4], or its bits, B in b[n : n + 2], D in sums from i on, and `below` further."""
        all_a = cuda.shared.array((1024, 4), np.float32)
        all_b = cuda.shared.array((1024, 2), np.float32)
        thread = cuda.threadIdx.x
        all_a[thread] = a[m : m + 4].view(np.float32)
        for q in range(2):
            all_b[thread, q] = b[n + q]
        cuda.syncthreads()
        lane, warp = thread % 32, thread - thread % 32
        for q in range(4):
            row, column = lane // 4 + q // 2 * 8, 2 * (lane % 4) + q % 2
            for k in range(8):
                left = all_a[warp + row % 8 * 4 + k % 4, row // 8 + k // 4 * 2]
                sums[i + q % 2 + q // 2 * below] += left * all_b[warp + column * 4 + k % 4, k // 4]
        cuda.syncthreads()

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    F32, I32, I64, VOID = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()

    def _element(context, builder, kind, array, *indices):
        """The address of an element of a C-contiguous array."""
        made = context.make_array(kind)(context, builder, array)
        sizes, place = cgutils.unpack_tuple(builder, made.shape), indices[0]
        for size, index in zip(sizes[1:], indices[1:], strict=True):
            place = builder.add(builder.mul(place, size), index)
        return builder.gep(made.data, [place])

    def _in_space(builder, pointer, space, integer):
        """An address within one of the memory spaces: 1 global, 3 shared."""
        return builder.ptrtoint(builder.addrspacecast(pointer, pointer.type.pointee.as_pointer(space)), integer)

    def _asm(builder, returns, text, constraints, *args):
        """An instruction; one that returns nothing is for what it does to memory."""
        kind = ir.FunctionType(returns, [x.type for x in args])
        return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=returns == VOID), args)

    def _vector(builder, pointer, count):
        """An address as one of a vector, and the bytes of that."""
        number = pointer.type.pointee
        size = count * (4 if number == F32 else 8)
        return builder.bitcast(pointer, ir.VectorType(number, count).as_pointer()), min(size, 16)

    def copier(count):
        """The copy of so many neighbours, number `at` of all and on, to a row of shared memory; zeros if not live."""

        @intrinsic
        def copy(typing, to, k, j, source, at, live):
            def generate(context, builder, signature, args):
                target = _in_space(builder, _element(context, builder, to, *args[:3]), 3, I32)
                data = context.make_array(source)(context, builder, args[3]).data
                origin = _in_space(builder, builder.gep(data, [args[4]]), 1, I64)
                size = count * source.dtype.bitwidth // 8
                each = min(size, 16)
                bytes_read = builder.select(args[5], I32(each), I32(0))
                cache = "cg" if each == 16 else "ca"
                for begin in range(0, size, each):
                    text = f"cp.async.{cache}.shared.global [$0 + {begin}], [$1 + {begin}], {each}, $2;"
                    _asm(builder, VOID, text, "r,l,r,~{memory}", target, origin, bytes_read)
                return context.get_dummy_value()

            n = types.intp
            return types.none(to, n, n, source, n, types.boolean), generate

        return copy

    @intrinsic
    def commit(typing):
        """Close a group of copies."""

        def generate(context, builder, signature, args):
            _asm(builder, VOID, "cp.async.commit_group;", "~{memory}")
            return context.get_dummy_value()

        return types.none(), generate

    def waiter(count):
        """The wait for all groups of copies but the last `count` ones that are closed."""

        @intrinsic
        def wait(typing):
            def generate(context, builder, signature, args):
                _asm(builder, VOID, f"cp.async.wait_group {count};", "~{memory}")
                return context.get_dummy_value()

            return types.none(), generate

        return wait

    def loader(count):
        """fragment[at:] = so many numbers of row k from j on, which is a multiple of their number."""

        @intrinsic
        def load(typing, fragment, at, source, k, j):
            def generate(context, builder, signature, args):
                pointer, size = _vector(builder, _element(context, builder, source, *args[2:]), count)
                vector = builder.load(pointer, align=size)
                for q in range(count):
                    place = builder.add(args[1], I64(q))
                    number = builder.extract_element(vector, I32(q))
                    builder.store(number, _element(context, builder, fragment, args[0], place))
                return context.get_dummy_value()

            n = types.intp
            return types.none(fragment, n, source, n, n), generate

        return load

    def storer(count):
        """The other way: to row r from c on."""

        @intrinsic
        def store(typing, fragment, at, to, r, c):
            def generate(context, builder, signature, args):
                pointer, size = _vector(builder, _element(context, builder, to, *args[2:]), count)
                vector = ir.Constant(pointer.type.pointee, ir.Undefined)
                for q in range(count):
                    number = builder.load(_element(context, builder, fragment, args[0], builder.add(args[1], I64(q))))
                    vector = builder.insert_element(vector, number, I32(q))
                builder.store(vector, pointer, align=size)
                return context.get_dummy_value()

            n = types.intp
            return types.none(fragment, n, to, n, n), generate

        return store

    @intrinsic
    def tf32(typing, x):
        """x rounded to 10 bits after the point, ties away from 0."""

        def generate(context, builder, signature, args):
            return builder.bitcast(_asm(builder, I32, "cvt.rna.tf32.f32 $0, $1;", "=r,f", args[0]), F32)

        return types.float32(types.float32), generate

    @intrinsic
    def mma(typing, a, m, b, n, sums, i, below):
        """D += A B: A in a[m : m + 4], or its bits, B in b[n : n + 2], D in sums from i on, and `below` further."""

        def generate(context, builder, signature, args):
            def number(kind, array, at, k):
                return _element(context, builder, kind, array, builder.add(at, I64(k)))

            lower = builder.add(args[5], args[6])
            places = [number(sums, args[4], at, k) for at in (args[5], lower) for k in (0, 1)]
            factors = [number(a, args[0], args[1], k) for k in range(4)]
            factors += [number(b, args[2], args[3], k) for k in (0, 1)]
            made = _asm(
                builder,
                ir.LiteralStructType([F32] * 4),
                "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
                ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4),
                *(builder.bitcast(builder.load(x), I32) for x in factors),
                *(builder.load(x) for x in places),
            )
            for k, place in enumerate(places):
                builder.store(builder.extract_value(made, k), place)
            return context.get_dummy_value()

        index = types.intp
        return types.none(a, index, b, index, sums, index, index), generate


@part
def split(numbers, count, pieces):
    """numbers[0:count] = tf32 numbers, the next `count` those of what is left, and so on: their sum is what was there.

    Two pieces leave no more than 2^-23 of a number, three nothing. The last one is cut off, so that NaN stays NaN.
    """
    for j in range(count):
        left = numbers[j]
        for k in range(pieces):
            half = 0x1000 if k + 1 < pieces else 0
            piece = np.uint32((left.view(np.uint32) + half) & 0xFFFFE000).view(np.float32)
            numbers[k * count + j] = piece
            left -= piece
