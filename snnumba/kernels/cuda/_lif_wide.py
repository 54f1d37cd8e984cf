"""Leaky integrate-and-fire neurons with a large linear feedback and many samples, all steps back in one launch.

A block has TILE neurons of TILE samples, and for all steps their columns of the matrix in shared memory. The blocks
that have the same samples are a group. A thread makes eight sums by eight in its registers, and at a step GROUPS of
threads share out the terms. Each copies its inputs, d of the step after, from where the group's blocks have put them,
as soon as those have raised their flags, and the next come while it multiplies. The sums of the groups are added in
order by the threads that have the neurons, with their state in registers.

A block's flag counts how often it has put something, from launch to launch. What it puts has two places in turn: one is
used again two steps later, and in between the whole group has been waited for.

Shared memory, in this order: the columns of the matrix; inputs of each warp, STAGES times, or then the sums of each
group of threads; what is put.
"""

import numpy as np

from ._driver import SIMULATED, blocks, bounded, cuda, holds_together, part, rules, scratch
from ._lif import adjoint
from ._lif_tiled import clear_bits
from ._ptx import commit, waiter
from ._together import (
    WARP,
    await_flag,
    copy_four,
    four,
    number,
    put_four,
    put_number,
    raise_flag,
    sync_warp,
)

surrogate, lif_through_leak = rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE

SIDE, GROUPS, CHUNK = (1, 8, 4) if SIMULATED else (4, 16, 8)  # threads along a tile; groups; terms at a time
TILE, HALF = 8 * SIDE, 4 * SIDE
THREADS, WARPS = GROUPS * SIDE * SIDE, GROUPS // 2
EACH = TILE * TILE // THREADS  # neurons of a thread
MOST_COPIES = 2  # that a thread may have left to wait for
STAGES = MOST_COPIES + 2
ROWS = 2 * CHUNK  # terms of a warp at a time
ROOM = max(WARPS * STAGES * ROWS * TILE, GROUPS * TILE * TILE)
PITCH = TILE + 1
MOST_BLOCKS = 128  # that run together: an H100 has 132 multiprocessors
LEAST = 40 << 10  # neurons of all samples
MOST_SHARED = 227 << 10  # bytes of shared memory of a block, on sm_90
SUMS, EIGHT, OWN = (64,), (8,), (EACH,)

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
def load_columns(weight, column, rows, columns):
    """Copy a block's columns of the matrix to shared memory, zeros after its last row and column."""
    for e in range(cuda.threadIdx.x, rows * TILE, THREADS):
        k, n = e // TILE, column + e % TILE
        value = np.float32(0)
        if k < weight.shape[0] and n < weight.shape[1]:
            value = number(weight, k * weight.shape[1] + n)
        put_number(columns, e, value)


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
def add_products(room, x, of_x, columns, w, of_w, sums):
    """sums += eight inputs times eight numbers of the matrix."""
    left, right = cuda.local.array(EIGHT, np.float32), cuda.local.array(EIGHT, np.float32)
    left[0], left[1], left[2], left[3] = four(room, x)
    left[4], left[5], left[6], left[7] = four(room, of_x)
    right[0], right[1], right[2], right[3] = four(columns, w)
    right[4], right[5], right[6], right[7] = four(columns, of_w)
    for i in range(8):
        for j in range(8):
            sums[8 * i + j] += left[i] * right[j]


@part
def multiply(columns, inputs, first, rows, room, sums):
    """sums = inputs from `first` on times the matrix, of this thread's terms."""
    warp, lane = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP
    half, inner = lane // (SIDE * SIDE), lane % (SIDE * SIDE)
    row, column = 4 * (inner // SIDE) + HALF * half, 4 * (inner % SIDE) + HALF * half
    chunks = rows // (WARPS * ROWS)
    for i in range(64):
        sums[i] = 0
    for k in range(STAGES - 1):
        fetch(inputs, first, room, k, chunks)
    for chunk in range(chunks):
        await_copies()
        sync_warp()
        fetch(inputs, first, room, chunk + STAGES - 1, chunks)
        x, w = ((warp * STAGES + chunk % STAGES) * ROWS + half) * TILE, ((warp * chunks + chunk) * ROWS + half) * TILE
        a, b, c, d = x + row, x + (row ^ HALF), w + column, w + (column ^ HALF)
        for _ in range(CHUNK // 4):
            add_products(room, a, b, columns, c, d, sums)
            add_products(room, a + 2 * TILE, b + 2 * TILE, columns, c + 2 * TILE, d + 2 * TILE, sums)
            add_products(room, a + 4 * TILE, b + 4 * TILE, columns, c + 4 * TILE, d + 4 * TILE, sums)
            add_products(room, a + 6 * TILE, b + 6 * TILE, columns, c + 6 * TILE, d + 6 * TILE, sums)
            a, b, c, d = a + 8 * TILE, b + 8 * TILE, c + 8 * TILE, d + 8 * TILE


@part
def leave(sums, room):
    """Put the sums where the threads that have the neurons find them: swapped halves, so that banks differ."""
    warp, lane = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP
    half, inner = lane // (SIDE * SIDE), lane % (SIDE * SIDE)
    row, column = 4 * (inner // SIDE) + HALF * half, 4 * (inner % SIDE) + HALF * half
    first = (2 * warp + half) * TILE * TILE
    cuda.syncthreads()
    for i in range(8):
        s = (row ^ (HALF * (i // 4))) + i % 4
        at = first + s * TILE
        n = column ^ (HALF * (s // 4 % 2))
        put_four(room, at + n, sums[8 * i], sums[8 * i + 1], sums[8 * i + 2], sums[8 * i + 3])
        put_four(room, at + (n ^ HALF), sums[8 * i + 4], sums[8 * i + 5], sums[8 * i + 6], sums[8 * i + 7])
    cuda.syncthreads()


@part
def add_up(room, s, n):
    """The sum of what the groups of threads left for neuron n of sample s."""
    at = s * TILE + (n ^ (HALF * (s // 4 % 2)))
    total = number(room, at)
    for group in range(1, GROUPS):
        total += number(room, at + group * TILE * TILE)
    return total


@part
def put(tile, inputs, first, flags, i, count):
    """Copy what a block has to say, tile[n, s], to global memory, and raise its flag."""
    cuda.syncthreads()
    for e in range(4 * cuda.threadIdx.x, TILE * TILE, 4 * THREADS):
        at = e // TILE * PITCH + e % TILE
        put_four(
            inputs, first + e, number(tile, at), number(tile, at + 1), number(tile, at + 2), number(tile, at + 3)
        )  # fmt: skip
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
    half, base = MOST_BLOCKS // columns * rows * TILE, group * rows * TILE
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
