"""What blocks that run together tell each other, through global memory; and loads and stores as the machine has them.

A block may wait for another only if both are on the device: such a kernel is launched by launch_together. A number goes
with a tag in one word of 64 bits, which memory takes and gives whole: who reads a word until its tag is the one wanted
has the number too, and needs no barrier. Tags begin again at no launch, see _lif_spread.py.

Numbers are counted through all axes of a C-contiguous array, without a look at whether the count is below 0. Four of
them lie side by side, the first at a multiple of 16 bytes.
"""

import threading

import numpy as np

from ._driver import SIMULATED, cuda

WARP = 2 if SIMULATED else 32  # threads that go on together after sync_warp

if SIMULATED:

    def give_way():
        """Let threads of other blocks go on."""
        threading.current_thread().give_way()

    def sync_warp():
        """A barrier for the threads of a warp: here, as they all come to it equally often, of a block."""
        cuda.syncthreads()

    def send(words, i, value, tag):
        """Put a number with its tag in a word."""
        words[i] = np.uint64(np.float32(value).view(np.uint32)) | np.uint64(tag) << np.uint64(32)

    def receive(words, i, tag):
        """Wait for the tag in words i and i + 1; their numbers."""
        while any(words[i + k] >> np.uint64(32) != tag for k in range(2)):
            give_way()
        return tuple(np.uint32(words[i + k] & np.uint64(0xFFFFFFFF)).view(np.float32) for k in range(2))

    def number(x, i):
        """Number i of x."""
        return x.flat[i]

    def put_number(x, i, value):
        """Number i of x = value."""
        x.flat[i] = value

    def four(x, i):
        """Numbers i to i + 3 of x."""
        return tuple(x.flat[i + k] for k in range(4))

    def put_four(x, i, a, b, c, d):
        """Numbers i to i + 3 of x = a, b, c, d."""
        x.flat[i : i + 4] = a, b, c, d

else:
    from llvmlite import ir

    from ._driver import intrinsic, types

    FOUR = ir.VectorType(ir.FloatType(), 4)
    U32, U64 = ir.IntType(32), ir.IntType(64)

    def place(context, builder, array, values, kind):
        """The address of a number."""
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.bitcast(builder.gep(data, [values[1]]), kind.as_pointer())

    def assembly(builder, result, kinds, code, constraints, values):
        """A line of PTX that reads or writes memory."""
        return builder.asm(ir.FunctionType(result, kinds), code, constraints + ",~{memory}", values, True)

    @intrinsic
    def number(typing, x, i):
        """Number i of x."""

        def generate(context, builder, signature, values):
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            return builder.load(builder.gep(data, [values[1]]))

        return x.dtype(x, types.int64), generate

    @intrinsic
    def put_number(typing, x, i, value):
        """Number i of x = value."""

        def generate(context, builder, signature, values):
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            builder.store(values[2], builder.gep(data, [values[1]]))
            return context.get_dummy_value()

        return types.void(x, types.int64, x.dtype), generate

    @intrinsic
    def four(typing, x, i):
        """Numbers i to i + 3 of x."""

        def generate(context, builder, signature, values):
            loaded = builder.load(place(context, builder, signature.args[0], values, FOUR), align=16)
            parts = [builder.extract_element(loaded, U32(k)) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.float32, 4)(x, types.int64), generate

    @intrinsic
    def put_four(typing, x, i, a, b, c, d):
        """Numbers i to i + 3 of x = a, b, c, d."""

        def generate(context, builder, signature, values):
            vector = ir.Constant(FOUR, ir.Undefined)
            for k in range(4):
                vector = builder.insert_element(vector, values[2 + k], U32(k))
            builder.store(vector, place(context, builder, signature.args[0], values, FOUR), align=16)
            return context.get_dummy_value()

        return types.void(x, types.int64, *4 * [types.float32]), generate

    @intrinsic
    def send(typing, words, i, value, tag):
        """Put a number with its tag in a word."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U64), U64)
            value = builder.bitcast(values[2], U32)
            code = "{ .reg .b64 word; mov.b64 word, {$1, $2}; st.relaxed.gpu.global.b64 [$0], word; }"
            assembly(builder, ir.VoidType(), [U64, U32, U32], code, "l,r,r", [at, value, values[3]])
            return context.get_dummy_value()

        return types.void(words, types.int64, types.float32, types.uint32), generate

    @intrinsic
    def two_words(typing, words, i):
        """Words i and i + 1 as they are now, from the device's memory."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U64), U64)
            pair = ir.LiteralStructType([U32] * 4)
            code = (
                "{ .reg .b64 one, two; ld.relaxed.gpu.global.v2.b64 {one, two}, [$4]; "
                "mov.b64 {$0, $1}, one; mov.b64 {$2, $3}, two; }"
            )
            found = assembly(builder, pair, [U64], code, "=r,=r,=r,=r,l", [at])
            parts = [builder.extract_value(found, k) for k in range(4)]
            kinds = [ir.FloatType(), U32] * 2
            return context.make_tuple(builder, signature.return_type, list(map(builder.bitcast, parts, kinds)))

        return types.Tuple((types.float32, types.uint32) * 2)(words, types.int64), generate

    @cuda.jit(device=True, forceinline=True)
    def receive(words, i, tag):
        """Wait for the tag in words i and i + 1; their numbers."""
        a, of_a, b, of_b = two_words(words, i)
        while of_a != tag or of_b != tag:
            a, of_a, b, of_b = two_words(words, i)
        return a, b

    @cuda.jit(device=True, forceinline=True)
    def sync_warp():
        """A barrier for the threads of a warp."""
        cuda.syncwarp()
