"""Calls of kernels written down in memory, so that threads run them one after the other without the interpreter.

A call of function(begin, end, *args) is a few words in a row of int64: the address of machine code that reads the
arguments and calls the function, how many items there are, the grain, where the next call begins, and the arguments as
Numba passes them. Who runs it keeps the arrays alive. In place of a call there may be a barrier: 0 for the address, and
for an argument how many threads have come to it, which is 0 when a run begins.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from ._cache import kept

WORD = ir.IntType(64)
HEAD = 4  # words before the arguments
LINE = 8  # words of a cache line, on which a call begins
MOST = 2048  # words of a call: far more than any has
BARRIER = 0  # in place of a call's machine code
LOOKS = 10_000  # at a barrier's counter, before another thread gets this core: about 5 us
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


def _word(builder, args):
    """A pointer to word args[1] of those at address args[0]."""
    return builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]])


@intrinsic
def load(typing, address, index):
    """Word `index` of those at an address, read from memory each time, and before all that is read after."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_word(builder, args), "acquire", 8)

    return types.int64(types.intp, types.intp), generate


@intrinsic
def store(typing, address, index, value):
    """Word `index` of those at an address = value, written after all that was written before."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, args), "release", 8)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.int64), generate


@intrinsic
def increase(typing, address, index):
    """Add 1 to word `index` of those at an address, whoever else does."""

    def generate(context, builder, signature, args):
        builder.atomic_rmw("add", _word(builder, args), ir.Constant(WORD, 1), "acq_rel")
        return context.get_dummy_value()

    return types.none(types.intp, types.intp), generate


@intrinsic
def raise_to(typing, address, index, least):
    """Let word `index` of those at an address be at least so much, whoever else does."""

    def generate(context, builder, signature, args):
        builder.atomic_rmw("max", _word(builder, args), args[2], "acq_rel")
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.int64), generate


def _raise_plainly(address, index, least):
    """raise_to in plain Python."""
    word = ctypes.c_int64.from_address(address + 8 * index)
    word.value = max(word.value, least)


if config.DISABLE_JIT:
    raise_to = _raise_plainly  # type: ignore[assignment]


if hasattr(os, "sched_yield"):
    give_way = types.ExternalFunction("sched_yield", types.intc())  # to another thread on this core
else:  # pragma: no cover - not on Linux or macOS

    @numba.njit
    def give_way():
        """Nothing to be done."""


@kept
@numba.njit(nogil=True)
def meet(counter, all_here, stop):  # pragma: no cover - machine code is not traced
    """Add this thread to the counter at an address and wait for all: False if the word at `stop` is not 0 meanwhile."""
    increase(counter, 0)
    while True:
        for _ in range(LOOKS):
            if load(counter, 0) >= all_here:
                return True
        if load(stop, 0) != 0:
            return False
        give_way()


@kept
@numba.njit(nogil=True)
def run_share(program, end, threads, place, all_here, stop):  # pragma: no cover - machine code is not traced
    """Do the share of the thread with this place, 0 to threads - 1, of the calls at address `program`: did one fail?

    A call's items are cut into one range a thread, which begin at multiples of the grain. At a barrier all threads wait
    until its counter has come to all_here; if they are stopped there, that is a failure, and the end.
    """
    where, failed = 0, False
    while where < end:
        entry, items, grain = load(program, where), load(program, where + 1), load(program, where + 2)
        if entry == BARRIER:
            if not meet(program + 8 * (where + HEAD), all_here, stop):
                return True
        else:
            chunk = -(-items // (threads * grain)) * grain
            begin = place * chunk
            if begin < items:
                failed |= _call(entry, begin, min(begin + chunk, items), program + 8 * (where + HEAD))
        where = load(program, where + 3)
    return failed


class Program:
    """Calls written down, and what keeps their arrays alive."""

    def __init__(self) -> None:
        self._memory = np.zeros(0, np.int64)
        self._size = self.address = self.end = 0  # in words, but for the address
        self.shares = 0  # into how many parts the call with the most of them can be cut
        self._barriers: list[int] = []
        self._args: list[tuple[Any, ...]] = []  # of the calls, in order
        self._places: list[list[tuple[int, int]]] = []  # of each input, see find: words, and what they lie beyond it

    def append(self, write: Callable[..., int], items: int, grain: int, args: tuple[Any, ...]) -> None:
        """Add a call of a kernel's loop nest, written down by `write`, over items in ranges that begin at the grain."""
        self._make_room()
        self._args.append(args)
        self.end = write(self._memory, self.end, items, grain, *args)
        shares = -(-items // grain)
        if shares > self.shares:
            self.shares = shares

    def wait(self) -> None:
        """Let no thread begin a later call before all calls up to here are done."""
        if self.end == (self._barriers[-1] + LINE if self._barriers else 0):
            return
        self._make_room()
        head = self._memory[self.end : self.end + LINE]
        head[0], head[3], head[HEAD] = BARRIER, self.end + LINE, 0
        self._barriers.append(self.end)
        self.end += LINE

    def begin(self) -> None:
        """Be ready for a run: no thread has come to a barrier."""
        for barrier in self._barriers:
            self._memory[barrier + HEAD] = 0

    def find(self, inputs: Sequence[npt.NDArray[Any]]) -> None:
        """Find the words that point into arrays which others are to take the place of."""
        begins = [x.ctypes.data for x in inputs]
        self._places = [[] for _ in inputs]
        where, given = 0, iter(self._args)
        while where < self.end:
            call = self._memory[where : self._memory[where + 3]]
            arrays = [] if call[0] == BARRIER else [arg for arg in next(given) if isinstance(arg, np.ndarray)]
            for address in {array.ctypes.data for array in arrays}:
                for begin, x, places in zip(begins, inputs, self._places, strict=True):
                    if begin <= address < begin + x.nbytes:
                        words = where + HEAD + np.flatnonzero(call[HEAD:] == address)
                        places += [(word, address - begin) for word in words.tolist()]
            where += len(call)

    def move(self, inputs: Sequence[npt.NDArray[Any]]) -> None:
        """Let arrays, of the same shapes and types, take their place."""
        for x, places in zip(inputs, self._places, strict=True):
            begin = ctypes.addressof(ctypes.c_char.from_buffer(x))  # type: ignore[arg-type]  # sooner than x.ctypes
            for word, offset in places:
                self._memory[word] = begin + offset

    def _make_room(self) -> None:
        """Have memory for one more call."""
        if self.end + MOST > self._size:
            self._size = 2 * self._size + MOST
            before, self._memory = self._memory, aligned(self._size)
            self._memory[: self.end] = before[: self.end]
            self.address = self._memory.ctypes.data

    def clear(self) -> None:
        """Forget all calls."""
        self.end = self.shares = 0
        self._barriers.clear()
        self._args.clear()


def aligned(words: int) -> npt.NDArray[np.int64]:
    """Zeros that begin on a cache line."""
    memory = np.zeros(words + LINE, np.int64)
    return memory[-(memory.ctypes.data // 8) % LINE :][:words]
