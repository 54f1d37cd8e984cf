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
        """Put a number, or 32 bits, with its tag in a word."""
        bits = value if isinstance(value, np.uint32) else np.float32(value).view(np.uint32)
        words[i] = np.uint64(bits) | np.uint64(tag) << np.uint64(32)

    def receive_word(words, i, tag):
        """Wait for the tag in word i; its 32 bits."""
        while words[i] >> np.uint64(32) != tag:
            give_way()
        return np.uint32(words[i] & np.uint64(0xFFFFFFFF))

    def ballot(vote):
        """Which threads of a row of the block vote, as bits: here, all rows come to it equally often."""
        votes = cuda.shared.array(1024, np.uint8)
        row = cuda.blockDim.x * cuda.threadIdx.y
        votes[row + cuda.threadIdx.x] = vote
        cuda.syncthreads()
        found = sum(int(votes[row + k]) << k for k in range(cuda.blockDim.x))
        cuda.syncthreads()
        return np.uint32(found)

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

    def raise_flag(flags, i, count):
        """Flag i = count, after all that this block wrote before its last barrier."""
        flags[i] = count

    def await_flag(flags, i, count):
        """Wait until flag i has come to this count; then what was written before it is there to be copied."""
        while np.int32(flags[i] - np.uint32(count)) < 0:
            give_way()

    def copy_four(x, i, to, j):
        """Begin to copy numbers i to i + 3 of x, in global memory, to numbers j to j + 3 of shared memory."""
        to.flat[j : j + 4] = x.flat[i : i + 4]

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
        return builder.asm(
            ir.FunctionType(result, kinds), code, ",".join(filter(None, [constraints, "~{memory}"])), values, True
        )

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
        """Put a number, or 32 bits, with its tag in a word."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U64), U64)
            value = builder.bitcast(values[2], U32)
            code = "{ .reg .b64 word; mov.b64 word, {$1, $2}; st.relaxed.gpu.global.b64 [$0], word; }"
            assembly(builder, ir.VoidType(), [U64, U32, U32], code, "l,r,r", [at, value, values[3]])
            return context.get_dummy_value()

        return types.void(words, types.int64, value, types.uint32), generate

    @intrinsic
    def one_word(typing, words, i):
        """Word i as it is now, from the device's memory."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U64), U64)
            pair = ir.LiteralStructType([U32] * 2)
            code = "{ .reg .b64 word; ld.relaxed.gpu.global.b64 word, [$2]; mov.b64 {$0, $1}, word; }"
            found = assembly(builder, pair, [U64], code, "=r,=r,l", [at])
            parts = [builder.extract_value(found, k) for k in range(2)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.uint32, 2)(words, types.int64), generate

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

    @intrinsic
    def raise_flag(typing, flags, i, count):
        """Flag i = count, after all that this block wrote before its last barrier."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U32), U64)
            assembly(builder, ir.VoidType(), [U64, U32], "st.release.gpu.global.b32 [$0], $1;", "l,r", [at, values[2]])
            return context.get_dummy_value()

        return types.void(flags, types.int64, types.uint32), generate

    @intrinsic
    def flag(typing, flags, i):
        """Flag i as it is now."""

        def generate(context, builder, signature, values):
            at = builder.ptrtoint(place(context, builder, signature.args[0], values, U32), U64)
            return assembly(builder, U32, [U64], "ld.acquire.gpu.global.b32 $0, [$1];", "=r,l", [at])

        return types.uint32(flags, types.int64), generate

    @cuda.jit(device=True, forceinline=True)
    def await_flag(flags, i, count):  # pragma: no cover - runs on a GPU alone
        """Wait until flag i has come to this count; then what was written before it is there to be copied."""
        while np.int32(flag(flags, i) - count) < 0:
            pass

    @intrinsic
    def copy_four(typing, x, i, to, j):
        """Begin to copy numbers i to i + 3 of x, in global memory, to numbers j to j + 3 of shared memory."""

        def generate(context, builder, signature, values):
            there = builder.ptrtoint(place(context, builder, signature.args[0], values[:2], FOUR), U64)
            here = builder.ptrtoint(place(context, builder, signature.args[2], values[2:], FOUR), U64)
            code = (
                "{ .reg .b64 wide; .reg .b32 at; cvta.to.shared.u64 wide, $0; cvt.u32.u64 at, wide; "
                "cp.async.cg.shared.global [at], [$1], 16; }"
            )
            assembly(builder, ir.VoidType(), [U64, U64], code, "l,l", [here, there])
            return context.get_dummy_value()

        return types.void(x, types.int64, to, types.int64), generate

    @cuda.jit(device=True, forceinline=True)
    def receive(words, i, tag):  # pragma: no cover - runs on a GPU alone
        """Wait for the tag in words i and i + 1; their numbers."""
        a, of_a, b, of_b = two_words(words, i)
        while of_a != tag or of_b != tag:
            a, of_a, b, of_b = two_words(words, i)
        return a, b

    @cuda.jit(device=True, forceinline=True)
    def receive_word(words, i, tag):  # pragma: no cover - runs on a GPU alone
        """Wait for the tag in word i; its 32 bits."""
        bits, of_it = one_word(words, i)
        while of_it != tag:
            bits, of_it = one_word(words, i)
        return bits

    @cuda.jit(device=True, forceinline=True)
    def ballot(vote):  # pragma: no cover - runs on a GPU alone
        """Which threads of a warp vote, as bits."""
        return np.uint32(cuda.ballot_sync(0xFFFFFFFF, vote))

    @cuda.jit(device=True, forceinline=True)
    def sync_warp():  # pragma: no cover - runs on a GPU alone
        """A barrier for the threads of a warp."""
        cuda.syncwarp()
