"""Calls of kernels written down in memory, so that threads run them one after the other without the interpreter.

A call of function(begin, end, *args) is a few words in a row of int64: the address of machine code that reads the
arguments and calls the function, how many items there are, the grain, where the next call begins, and the arguments as
Numba passes them. Who runs it keeps the arrays alive.
"""

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._cache import kept

WORD = ir.IntType(64)
HEAD = 4  # words before the arguments
LINE = 8  # words of a cache line, on which a call begins
MOST = 2048  # words of a call: far more than any has
RANGE = types.intp, types.intp, types.intp  # begin, end, and the address of the arguments


@intrinsic
def append(typing, function, program, where, items, grain, args):
    """Write a call of a function compiled by Numba into program (words,) int64 at `where`; returns where it ends."""
    kinds = tuple(args)
    call = function.get_call_type(typing, (types.intp, types.intp, *kinds), {})

    def generate(context, builder, signature, values):
        _, words, at, *numbers, given = values
        room = ir.LiteralStructType([context.get_value_type(kind) for kind in kinds])
        lines = -(-(8 * HEAD + context.get_abi_sizeof(room)) // (8 * LINE))
        end = builder.add(at, ir.Constant(WORD, lines * LINE))
        head = builder.gep(context.make_array(program)(context, builder, words).data, [at])
        entry = builder.ptrtoint(_entry(context, builder, function, call, room), WORD)
        for k, word in enumerate([entry, *numbers, end]):
            builder.store(word, builder.gep(head, [ir.Constant(WORD, k)]))
        place = builder.bitcast(builder.gep(head, [ir.Constant(WORD, HEAD)]), room.as_pointer())
        for k, value in enumerate(cgutils.unpack_tuple(builder, given)):
            builder.store(value, cgutils.gep_inbounds(builder, place, 0, k))
        return end

    return types.intp(function, program, types.intp, types.intp, types.intp, args), generate


def _entry(context, builder, function, call, room):
    """Machine code entry(begin, end, address), Numba's way, that calls a function with the arguments at an address."""
    kind = context.call_conv.get_function_type(types.none, RANGE)
    entry = ir.Function(builder.module, kind, f"{builder.function.name}.entry")
    entry.linkage = "internal"
    inside = ir.IRBuilder(entry.append_basic_block())
    begin, end, address = context.call_conv.get_arguments(entry)
    place = inside.inttoptr(address, room.as_pointer())
    args = [inside.load(cgutils.gep_inbounds(inside, place, 0, k)) for k in range(len(room.elements))]
    context.get_function(function, call)(inside, [begin, end, *args])
    context.call_conv.return_value(inside, context.get_dummy_value())
    return entry


@intrinsic
def _call(typing, entry, begin, end, address):
    """Call the machine code at address `entry`; whether that failed."""

    def generate(context, builder, signature, args):
        kind = context.call_conv.get_function_type(types.none, RANGE)
        pointer = builder.inttoptr(args[0], kind.as_pointer())
        status, _ = context.call_conv.call_function(builder, pointer, types.none, RANGE, args[1:])
        return status.is_error

    return types.boolean(types.intp, *RANGE), generate


@intrinsic
def load(typing, address, index):
    """Word `index` of those at an address, read from memory each time, and before all that is read after."""

    def generate(context, builder, signature, args):
        place = builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp, types.intp), generate


@intrinsic
def store(typing, address, index, value):
    """Word `index` of those at an address = value, written after all that was written before."""

    def generate(context, builder, signature, args):
        place = builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]])
        builder.store_atomic(args[2], place, "release", 8)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.int64), generate


@kept
@numba.njit(nogil=True)
def run_share(program, end, threads, place):  # pragma: no cover - machine code is not traced
    """Do the share of the thread with this place, 0 to threads - 1, of the calls at address `program`: did one fail?

    A call's items are cut into one range a thread, which begin at multiples of the grain.
    """
    where, failed = 0, False
    while where < end:
        items, grain = load(program, where + 1), load(program, where + 2)
        chunk = -(-items // (threads * grain)) * grain
        begin = place * chunk
        if begin < items:
            failed |= _call(load(program, where), begin, min(begin + chunk, items), program + 8 * (where + HEAD))
        where = load(program, where + 3)
    return failed
