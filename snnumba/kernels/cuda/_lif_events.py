"""Leaky integrate-and-fire neurons with a large linear feedback, all steps forward in one launch, by spikes as events.

A block has LANES neurons of some samples, and for all steps their columns of the matrix in shared memory. A warp has a
sample, and each of its threads a neuron, with its state in registers. The blocks that have the same samples are a
group, all of whose neurons a sample's spikes come from: at a step each of them sends one word for a sample, its spikes
as bits with a tag, by _together.py. The warp makes a list of those that fired, and of
the bias as one that always does. PARTS shares of its threads add up the rows of the matrix for a part of the list each,
four columns a thread, and what they leave is added in order.

So warps wait for those of other blocks that have their sample, but not for those of their own block: while some wait,
others add. Between two uses of the same place for what is sent, of two in turn, lies a step for which the whole group
had to wait. The tag is the number of the exchange since the words were made: it goes on from launch to launch.

Shared memory, in this order: the columns of the matrix, the bias, and a row of zeros; of each warp, what its shares
leave; of each warp, its list.
"""

import numpy as np

from ._driver import SIMULATED, blocks, bounded, cuda, holds_together, part, rules, scratch
from ._lif import potential_of, settled, without_lowest
from ._lif_tiled import clear_bits
from ._ptx import commit, waiter
from ._together import (
    ballot,
    copy_four,
    four,
    number,
    put_four,
    put_number,
    receive_word,
    send,
    sync_warp,
)
from .bits import lowest, popcount

spike = rules.spike

LANES, MOST_WARPS, WORD = (8, 8, np.uint8) if SIMULATED else (32, 32, np.uint32)  # as many bits in a word as neurons
THREADS = LANES * MOST_WARPS
PARTS, QUAD = 4, 4  # shares of a warp; columns of a thread, and members of the list that it takes at once
DIGITS = LANES.bit_length()  # of how many bits of a word are set
AHEAD = 2 * PARTS * QUAD  # places after the last of a list, for those that fill it up and those read too early
MOST_BLOCKS = 128  # that run together: an H100 has 132 multiprocessors
MOST_SHARED = 227 << 10  # bytes of shared memory of a block, on sm_90

await_all = waiter(0)


class Events:
    """How launches are cut."""

    def __init__(self, weight, mem):
        _, batch, neurons = mem.shape
        self.batch, self.columns = batch, blocks(neurons, LANES)
        rows = self.columns * LANES
        held, each = 4 * (rows + 2) * LANES, 4 * PARTS * LANES + 2 * (rows + AHEAD)  # bytes, of them for a sample
        together = MOST_BLOCKS // self.columns  # groups
        most = min(MOST_WARPS, (MOST_SHARED - held) // each)
        self.possible = weight.dtype == np.float32 and together > 0 and most > 0
        if self.possible:
            samples = min(most, blocks(batch, together))
            self.groups = blocks(batch, samples)
            self.block, self.shared = (LANES, samples), held + samples * each
            self.launches = [
                (k, (self.columns, min(together, self.groups - k))) for k in range(0, self.groups, together)
            ]
            self.possible = holds_together(self.columns * min(together, self.groups), self.shared)

    def words(self):
        """Room for what blocks send at two steps; and for each group, how many exchanges it has had."""
        return scratch("spikes", (1, 1, 2 * self.batch * self.columns + self.groups), np.uint64, clear_bits).reshape(-1)


@part
def load_columns(weight, bias, column, rows, slab):
    """Copy a block's columns of the matrix to shared memory, then zeros but for the bias in the last row but one."""
    neurons, thread = weight.shape[0], cuda.threadIdx.x + LANES * cuda.threadIdx.y
    threads = LANES * cuda.blockDim.y
    if neurons % QUAD == 0:
        for e in range(QUAD * thread, (rows + 2) * LANES, QUAD * threads):
            k, n = e // LANES, column + e % LANES
            if k < neurons and n < neurons:
                copy_four(weight, k * neurons + n, slab, e)
            else:
                zero = np.float32(0)
                put_four(slab, e, zero, zero, zero, zero)
    else:
        for e in range(thread, (rows + 2) * LANES, threads):
            k, n = e // LANES, column + e % LANES
            value = np.float32(0)
            if k < neurons and n < neurons:
                value = number(weight, k * neurons + n)
            put_number(slab, e, value)
    commit()
    await_all()
    cuda.syncthreads()
    if bias is not None and cuda.threadIdx.y == 0 and column + cuda.threadIdx.x < neurons:
        put_number(slab, rows * LANES + cuda.threadIdx.x, number(bias, column + cuda.threadIdx.x))
    cuda.syncthreads()


@part
def append_bits(word, first, members, length):
    """Write the indices of the bits set in a word of each thread, the first of them `first`; the list's new length."""
    count, below = popcount(word), np.uint32((1 << cuda.threadIdx.x) - 1)
    at = length
    for digit in range(DIGITS):
        votes = ballot(count >> digit & 1 != 0)
        at += popcount(votes & below) << digit
        length += popcount(votes) << digit
    while word != 0:
        members[at] = first + lowest(word)
        word = without_lowest(word)
        at += 1
    return length


@part
def factor(x, k):
    """x[k] for a row of the matrix, 1 for that of the bias."""
    return number(x, k) if k < x.shape[0] else np.float32(1)


@part
def leave_sums(slab, x, quads, length, lane, left):
    """Add up rows of the matrix: this thread's columns, of the members of the list that are its share's.

    x: None, or factors of the rows, which if they are 1 do not change a bit.
    """
    count = length // (PARTS * QUAD) + 1
    share, column = lane // (LANES // PARTS), lane % (LANES // PARTS) * QUAD
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    after = quads[share]
    for q in range(count):
        now, after = after, quads[PARTS * (q + 1) + share]
        e0, e1, e2, e3 = four(slab, (now & 0xFFFF) * LANES + column)
        f0, f1, f2, f3 = four(slab, (now >> 16 & 0xFFFF) * LANES + column)
        g0, g1, g2, g3 = four(slab, (now >> 32 & 0xFFFF) * LANES + column)
        h0, h1, h2, h3 = four(slab, (now >> 48) * LANES + column)
        if x is not None:
            y = factor(x, now & 0xFFFF)
            e0, e1, e2, e3 = y * e0, y * e1, y * e2, y * e3
            y = factor(x, now >> 16 & 0xFFFF)
            f0, f1, f2, f3 = y * f0, y * f1, y * f2, y * f3
            y = factor(x, now >> 32 & 0xFFFF)
            g0, g1, g2, g3 = y * g0, y * g1, y * g2, y * g3
            y = factor(x, now >> 48)
            h0, h1, h2, h3 = y * h0, y * h1, y * h2, y * h3
        a += (e0 + f0) + (g0 + h0)
        b += (e1 + f1) + (g1 + h1)
        c += (e2 + f2) + (g2 + h2)
        d += (e3 + f3) + (g3 + h3)
    put_four(left, share * LANES + column, a, b, c, d)
    sync_warp()


@part
def end_list(members, length, rows):
    """Put the bias at the end of a list, and zeros until it is of whole parts."""
    for k in range(cuda.threadIdx.x, PARTS * QUAD, LANES):
        members[length + k] = rows if k == 0 else rows + 1
    sync_warp()


@part
def added_up(left, lane):
    """The sum of what the shares left for this thread's neuron, in order."""
    return (number(left, lane) + number(left, LANES + lane)) + (
        number(left, 2 * LANES + lane) + number(left, 3 * LANES + lane)
    )


@bounded(THREADS)
def forward_events(
    first, current, weight, bias, beta, threshold, levels, spk0, mem0, reset, delay, words, mem, potential, spk
):  # fmt: skip
    """Eqs. (1) to (4) and (9) for groups from `first` on; arguments as in lif.lif_forward.

    spk is one of WORDs in a row; of step 0 it is given.
    """
    steps, batch, neurons = mem.shape
    lane, warp, samples, p, columns = (
        cuda.threadIdx.x,
        cuda.threadIdx.y,
        cuda.blockDim.y,
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )
    group, rows = first + cuda.blockIdx.y, columns * LANES
    b, n = group * samples + warp, p * LANES + lane
    here, alive = b < batch, b < batch and n < neurons
    begin, begin_lists = (rows + 2) * LANES, (rows + 2 + samples * PARTS) * LANES  # in numbers of four bytes
    slab = cuda.shared.array(0, np.float32)
    left = slab[begin + warp * PARTS * LANES :]
    members = cuda.shared.array(0, np.uint16)[2 * begin_lists + warp * (rows + AHEAD) :]
    quads = cuda.shared.array(0, np.int64)[begin_lists // 2 + warp * (rows + AHEAD) // 4 :]
    half = batch * columns
    sent = np.uint32(number(words, 2 * half + group))
    load_columns(weight, bias, p * LANES, rows, slab)

    e, every, moving = b * neurons + n, batch * neurons, current.shape[0] > 1
    wide = 8 // (LANES // 8) * ((neurons + 63) // 64)  # WORDs of a sample
    zero = np.float32(0)
    u = decay = theta = i = zero
    if alive:
        u, decay, theta, i = number(mem0, e), number(beta, n), number(threshold, n), number(current, e)
    if here and p == columns - 1:
        for t in range(1 + lane, steps + 1, LANES):
            for k in range(columns, wide):
                put_number(spk, (t * batch + b) * wide + k, WORD(0))
    length = 0
    for k in range(lane, lane + columns, LANES):
        word = np.uint32(number(spk, b * wide + k)) if here and k < columns else np.uint32(0)
        length = append_bits(word, LANES * k, members, length)
    end_list(members, length, rows)
    leave_sums(slab, spk0[b if here else 0], quads, length, lane, left)
    total = added_up(left, lane)
    for t in range(steps):
        if t > 0:
            tag, there = np.uint32(sent + t), t % 2 * half + b * columns
            length = 0
            for k in range(lane, lane + columns, LANES):
                word = np.uint32(0)
                if here and k < columns:
                    word = receive_word(words, there + k, tag)
                length = append_bits(word, LANES * k, members, length)
            end_list(members, length, rows)
            leave_sums(slab, None, quads, length, lane, left)
            total = added_up(left, lane)
        m = potential_of(u, i + total, decay, theta, levels, reset)
        fired = spike(m - theta) if alive else zero
        votes = ballot(fired != 0)
        if here and lane == 0:
            if t + 1 < steps:
                send(words, (t + 1) % 2 * half + b * columns + p, votes, np.uint32(sent + t + 1))
            put_number(spk, ((t + 1) * batch + b) * wide + p, WORD(votes))
        u = settled(u, m, fired, theta, reset, delay)
        if alive:
            put_number(potential, t * every + e, m)
            put_number(mem, t * every + e, u)
            if t + 1 < steps:
                i = number(current, (t + 1) * moving * every + e)
    if p == 0 and lane == 0 and warp == 0:
        put_number(words, 2 * half + group, np.uint64(np.uint32(sent + steps)))
