"""Leaky integrate-and-fire neurons with a large linear feedback and many samples, all steps back in one launch.

A block has TILE neurons of TILE samples, and for all steps their columns of the matrix in shared memory. The blocks
that have the same samples are a group. At a step a block's warps share out the terms. Each copies its inputs, d of the
step after, from where the group's blocks have put them, as soon as those have raised their flags, and the next come
while it multiplies. The sums of the warps are added in order by the threads that have the neurons, with their state in
registers.

Tensor cores multiply: x y = (x1 + x2) (y1 + y2), split as in _ptx.py, but for x2 y2, which is no more than 2^-22 |x y|.
They cut off what float32 would round; so they add up ROWS terms from 0, and threads add those sums up.

A block's flag counts how often it has put something, from launch to launch. What it puts has two places in turn: one is
used again two steps later, and in between the whole group has been waited for.

Shared memory, in this order: the columns of the matrix; inputs of each warp, STAGES times, or then the sums of each
warp; what is put. Rows of TILE numbers lie swizzled, so that lanes of mma (_ptx.py) have banks of their own.
"""

import numpy as np

from ._driver import SIMULATED, blocks, bounded, cuda, holds_together, part, rules, scratch
from ._lif import adjoint
from ._lif_tiled import clear_bits
from ._ptx import commit, mma, split, waiter
from ._together import await_flag, copy_four, number, put_four, put_number, raise_flag, sync_warp

surrogate, lif_through_leak = rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE

TILE, WARPS, WARP = (16, 1, 32) if SIMULATED else (32, 8, 32)
THREADS = WARP * WARPS
EACH = TILE * TILE // THREADS  # neurons of a thread
MOST_COPIES = 2  # that a thread may have left to wait for
STAGES = MOST_COPIES + 2
ROWS = 16  # terms of a warp at a time
ROOM = WARPS * max(STAGES * ROWS, TILE) * TILE
PITCH = TILE + 1
MOST_BLOCKS = 128  # that run together: an H100 has 132 multiprocessors
LEAST = 40 << 10  # neurons of all samples
MOST_SHARED = 227 << 10  # bytes of shared memory of a block, on sm_90
HIGH, ACROSS = TILE // 16, TILE // 8  # tiles of mma: of samples, and of neurons
SUMS, OWN = (4 * HIGH * ACROSS,), (EACH,)
LEFT, RIGHT = (8,), (4 * ACROSS,)  # a tile of inputs and its rest; a row of tiles of the matrix and its rest

await_copies = waiter(MOST_COPIES)


class Wide:
    """How launches are cut."""

    def __init__(self, weight, mem):
        _, batch, neurons = mem.shape
        self.size = batch * neurons
        self.columns = blocks(neurons, TILE)
        self.rows = WARPS * ROWS * blocks(neurons, WARPS * ROWS)
        self.shared = 4 * (self.rows * TILE + ROOM + TILE * PITCH)
        together, groups = MOST_BLOCKS // self.columns, blocks(batch, TILE)
        self.launches = [(k, (self.columns, min(together, groups - k))) for k in range(0, groups, max(1, together))]
        self.possible = (
            weight.dtype == np.float32
            and together > 0
            and self.shared <= MOST_SHARED
            and holds_together(self.columns * min(together, groups), self.shared)
        )

    @property
    def chosen(self):
        """Whether there are so many samples that this is the better way."""
        return self.possible and self.size >= LEAST

    def room(self):
        """Where blocks put what others need, and their flags."""
        groups = MOST_BLOCKS // self.columns
        inputs = scratch("inputs", (2, groups, self.rows * TILE // 2), np.uint64, clear_bits).reshape(-1)
        flags = scratch("flags", (1, groups, self.columns), np.uint64, clear_bits).reshape(-1)
        return inputs.view(np.float32), flags.view(np.uint32)


@part
def swizzled(row, column):
    """Where a number of a row of TILE ones lies; four neighbours stay together."""
    return row * TILE + (column ^ 8 * (row % ACROSS))


@part
def load_columns(weight, column, rows, columns):
    """Copy a block's columns of the matrix to shared memory, zeros after its last row and column."""
    for e in range(cuda.threadIdx.x, rows * TILE, THREADS):
        k, n = e // TILE, column + e % TILE
        value = np.float32(0)
        if k < weight.shape[0] and n < weight.shape[1]:
            value = number(weight, k * weight.shape[1] + n)
        put_number(columns, swizzled(k, e % TILE), value)


@part
def fetch(inputs, first, room, chunk, chunks):
    """Begin to copy a warp's inputs for a chunk, if there is one."""
    warp, lane = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP
    if chunk < chunks:
        there = first + (warp * chunks + chunk) * ROWS * TILE + 4 * lane
        here = (warp * STAGES + chunk % STAGES) * ROWS * TILE + 4 * lane
        for k in range(ROWS * TILE // (4 * WARP)):
            copy_four(inputs, there + 4 * WARP * k, room, here + 4 * WARP * k)
    commit()


@part
def multiply(columns, inputs, first, rows, room, sums):
    """sums = inputs from `first` on times the matrix, of this warp's terms."""
    few = cuda.local.array(SUMS, np.float32)
    left, right = cuda.local.array(LEFT, np.float32), cuda.local.array(RIGHT, np.float32)
    warp, g, h = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP // 4, cuda.threadIdx.x % 4
    chunks, aside = rows // (WARPS * ROWS), swizzled(h, 0) - h * TILE  # of all rows that this thread reads
    for e in range(SUMS[0]):
        sums[e] = 0
    for k in range(STAGES - 1):
        fetch(inputs, first, room, k, chunks)
    for chunk in range(chunks):
        await_copies()
        sync_warp()
        fetch(inputs, first, room, chunk + STAGES - 1, chunks)
        for e in range(SUMS[0]):
            few[e] = 0
        x, w = (warp * STAGES + chunk % STAGES) * ROWS + h, (warp * chunks + chunk) * ROWS + h
        for k in range(0, ROWS, 8):
            for j in range(2 * ACROSS):
                right[j] = number(columns, (w + k + 4 * (j % 2)) * TILE + (8 * (j // 2) + g ^ aside))
            split(right, 2 * ACROSS, 2)
            for i in range(HIGH):
                for q in range(4):
                    left[q] = number(room, (x + k + 4 * (q // 2)) * TILE + (16 * i + 8 * (q % 2) + g ^ aside))
                split(left, 4, 2)
                for j in range(ACROSS):
                    at = 4 * (i * ACROSS + j)
                    mma(left, 4, right, 2 * j, few, at, 2)
                    mma(left, 0, right, 2 * (ACROSS + j), few, at, 2)
                    mma(left, 0, right, 2 * j, few, at, 2)
        for e in range(SUMS[0]):
            sums[e] += few[e]


@part
def leave(sums, room):
    """Put a warp's sums where the threads that have the neurons find them."""
    warp, g, h = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP // 4, cuda.threadIdx.x % 4
    cuda.syncthreads()
    for e in range(0, SUMS[0], 2):
        s, n = e // 4 // ACROSS * 16 + e % 4 // 2 * 8 + g, e // 4 % ACROSS * 8 + 2 * h
        at = swizzled(warp * TILE + s, n)
        put_number(room, at, sums[e])
        put_number(room, at + 1, sums[e + 1])
    cuda.syncthreads()


@part
def add_up(room, s, n):
    """The sum of what the warps left for neuron n of sample s."""
    at = swizzled(s, n)
    total = number(room, at)
    for warp in range(1, WARPS):
        total += number(room, at + warp * TILE * TILE)  # pragma: no cover - a simulated block has one warp
    return total


@part
def put(tile, inputs, first, flags, i, count):
    """Copy what a block has to say, tile[n, s], to global memory, and raise its flag."""
    cuda.syncthreads()
    for e in range(4 * cuda.threadIdx.x, TILE * TILE, 4 * THREADS):
        at, to = e // TILE * PITCH + e % TILE, first + swizzled(e // TILE, e % TILE)
        put_four(inputs, to, number(tile, at), number(tile, at + 1), number(tile, at + 2), number(tile, at + 3))
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        raise_flag(flags, i, count)


@part
def await_inputs(flags, first, columns, rows, count):
    """Wait for the blocks that have this warp's terms."""
    warp, lane = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP
    share = rows // WARPS
    for k in range(warp * share // TILE + lane, min(blocks_of((warp + 1) * share), columns), WARP):
        await_flag(flags, first + k, count)
    sync_warp()


@part
def blocks_of(terms):
    """How many blocks have so many terms."""
    return (terms + TILE - 1) // TILE


@bounded(THREADS)
def backward_wide(
    first, rows, dspk, dmem, weight, beta, threshold, mem0, mem, potential, kind, a, b, reset, delay, learn, inputs,
    flags, initial, dcurrent, dspk0, dmem0, dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11) for groups from `first` on; arguments as in lif.lif_backward."""
    floats = cuda.shared.array(0, np.float32)
    sums = cuda.local.array(SUMS, np.float32)
    m, u, after = (
        cuda.local.array(OWN, np.float32),
        cuda.local.array(OWN, np.float32),
        cuda.local.array(OWN, np.float32),
    )
    gs, gu, h = cuda.local.array(OWN, np.float32), cuda.local.array(OWN, np.float32), cuda.local.array(OWN, np.float32)
    d, of_beta = cuda.local.array(OWN, np.float32), cuda.local.array(OWN, np.float32)
    of_theta = cuda.local.array(OWN, np.float32)
    steps, batch, neurons = mem.shape
    thread, group, p, columns = cuda.threadIdx.x, cuda.blockIdx.y, cuda.blockIdx.x, cuda.gridDim.x
    matrix, room, tile = floats, floats[rows * TILE :], floats[rows * TILE + ROOM :]
    c, row = thread % TILE, thread // TILE
    n, r = TILE * p + c, TILE * (first + group) + row
    every = THREADS // TILE
    half, base = inputs.shape[0] // 2, group * rows * TILE
    count = number(flags, group * columns + p)
    load_columns(weight, TILE * p, rows, matrix)

    zero, one = np.float32(0), np.float32(1)
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] >= batch
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] >= batch
    decay = theta = zero
    if n < neurons:
        decay, theta = beta[n], threshold[n]
    for k in range(EACH):
        after[k] = d[k] = of_beta[k] = of_theta[k] = zero
        if n < neurons and r + every * k < batch:
            at = (r + every * k) * neurons + n
            after[k] = number(mem, (steps - 1) * batch * neurons + at)
            if learn & MORE:
                d[k] = number(dcurrent, steps * batch * neurons + at)
    for t in range(steps - 1, -1, -1):
        for k in range(EACH):
            m[k] = u[k] = gs[k] = gu[k] = h[k] = zero
            if n < neurons and r + every * k < batch:
                at = (r + every * k) * neurons + n
                m[k] = number(potential, t * batch * neurons + at)
                u[k] = number(mem, (t - 1) * batch * neurons + at) if t > 0 else number(mem0, at)
                gs[k] = number(dspk, t * spk_t * batch * neurons + (at if spk_b else n))
                gu[k] = number(dmem, t * mem_t * batch * neurons + (at if mem_b else n))
                h[k] = surrogate(m[k] - theta, kind, a, b)
        if t + 1 < steps:
            await_inputs(flags, group * columns, columns, rows, np.uint32(count + steps - 1 - t))
            multiply(matrix, inputs, t % 2 * half + base, rows, room, sums)
            leave(sums, room)
        for k in range(EACH):
            if n < neurons and r + every * k < batch:
                a_s = gs[k]
                if t + 1 < steps:
                    a_s += add_up(room, row + every * k, c)
                elif learn & MORE:
                    a_s += number(dspk0, (r + every * k) * neurons + n)
                d[k], beta_here, theta_here = adjoint(
                    a_s, gu[k], d[k], m[k], u[k], after[k], decay, theta, one, h[k], reset, delay
                )
                of_beta[k] += beta_here
                of_theta[k] += theta_here
                after[k] = u[k]
            put_number(tile, c * PITCH + row + every * k, d[k])
        if t > 0 or initial:
            there = (t + 1) % 2 * half + base + TILE * p * TILE
            put(tile, inputs, there, flags, group * columns + p, np.uint32(count + steps - t))
        for k in range(EACH):
            if n < neurons and r + every * k < batch:
                put_number(dcurrent, (t * batch + r + every * k) * neurons + n, d[k])
    if initial:
        await_inputs(flags, group * columns, columns, rows, np.uint32(count + steps))
        multiply(matrix, inputs, half + base, rows, room, sums)
        leave(sums, room)
    for k in range(EACH):
        if n < neurons and r + every * k < batch:
            at = (r + every * k) * neurons + n
            if initial:
                put_number(dspk0, at, add_up(room, row + every * k, c))
                put_number(dmem0, at, decay * lif_through_leak(d[k], after[k], theta, reset))
            if learn & WANTED:
                put_number(dbeta, at, of_beta[k] + (number(dbeta, at) if learn & MORE else zero))
                put_number(dthreshold, at, of_theta[k] + (number(dthreshold, at) if learn & MORE else zero))
