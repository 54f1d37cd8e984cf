"""Leaky integrate-and-fire neurons with a large linear feedback, all steps in one launch: blocks share out a matrix.

A group of blocks has some samples, and each of its blocks some neurons of them. A thread keeps EACH columns of TERMS
rows of the matrix in registers for all steps. At a step it waits for its TERMS inputs, the spikes of the step before or
d of the step after, multiplies them, and leaves its sums in shared memory; then the thread that has a neuron of a
sample adds those up in order, goes on with the neuron's state, which it has in registers, and sends what comes of it to
the blocks of the group, by _together.py.

Between two uses of the same place, of two in turn, for what is sent lies a step for which the whole group had to wait,
and in shared memory a barrier of the block. The tag of what is sent is the number of the exchange since the words were
made: it goes on from launch to launch.

Shared memory, in this order: the sums of each thread, for each sample, at two steps; the inputs.
"""

import numpy as np

from ._driver import SIMULATED, blocks, bounded, cuda, elementwise, holds_together, part, rules, scratch
from ._lif import adjoint, potential_of, settled
from ._lif_tiled import clear_bits
from ._together import WARP, four, number, put_four, put_number, receive, send, sync_warp
from .bits import word_bit

spike, surrogate, lif_through_leak = rules.spike, rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE

THREADS, TERMS, EACH = (16, 4, 8) if SIMULATED else (256, 16, 8)
HELD = TERMS * EACH  # numbers of the matrix that a thread keeps
SUMS = THREADS * EACH  # numbers that the threads of a block leave for a sample
PITCH = TERMS + 4  # from the inputs of a thread to those of the next: at once they lie in different banks
MOST_BLOCKS = 128  # that run together: an H100 has 132 multiprocessors
MOST_SHARED = 227 << 10  # bytes of shared memory of a block, on sm_90
OWN = (HELD,)
PARTS = (EACH,)


class Spread:
    """How launches are cut: across threads of a block share TERMS inputs, and the rest have others."""

    def __init__(self, weight, mem):
        _, batch, neurons = mem.shape
        self.across = WARP
        while self.across > 1 and THREADS // self.across * TERMS < neurons:
            self.across //= 2
        self.rows = THREADS // self.across * TERMS  # of the matrix: zeros after the last neuron
        columns = blocks(neurons, self.across * EACH)
        together = MOST_BLOCKS // columns  # groups
        each = 4 * (2 * SUMS + self.rows // TERMS * PITCH)  # bytes of shared memory for a sample
        most = min(THREADS // (self.across * EACH), MOST_SHARED // each)
        self.samples = min(most, blocks(batch, max(together, 1)))
        groups = blocks(batch, self.samples)
        self.shared = self.samples * each
        self.block = self.across, THREADS // self.across
        self.launches = [(k, (columns, min(together, groups - k))) for k in range(0, groups, max(together, 1))]
        self.possible = (
            weight.dtype == np.float32
            and neurons <= self.rows
            and columns <= MOST_BLOCKS
            and holds_together(columns * min(together, groups), self.shared)
        )
        self.alone = self.possible and self.samples == 1 and len(self.launches) == 1  # a sample a group, all at once

    def words(self):
        """Room for what blocks send at two steps; and for each group, how many exchanges it has had."""
        return scratch("words", (3, MOST_BLOCKS * self.samples, self.rows), np.uint64, clear_bits)


@part
def keep(weight, column, begin, own):
    """Take some rows of this thread's part of the matrix: of EACH columns, half lie in either half of the block's."""
    rows, columns = weight.shape
    for i in range(begin, begin + TERMS // 4):
        k = TERMS * cuda.threadIdx.y + i
        for j in range(EACH):
            n = column + j % 4 + 4 * (cuda.threadIdx.x + j // 4 * cuda.blockDim.x)
            own[EACH * i + j] = number(weight, k * columns + n) if k < rows and n < columns else np.float32(0)


@part
def at_term(k):
    """Where input k of a sample lies."""
    return k // TERMS * PITCH + k % TERMS


@part
def take_inputs(values, first, live, rows, inputs):
    """Copy this warp's inputs of samples from `first` on from an array (B, N)."""
    thread, share = cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y, rows // (THREADS // WARP)
    begin = thread // WARP * share
    for s in range(live):
        for k in range(begin + thread % WARP, min(begin + share, values.shape[1]), WARP):
            inputs[at_term(s * rows + k)] = values[first + s, k]
    sync_warp()


@part
def receive_inputs(words, first, live, rows, neurons, tag, inputs):
    """Wait for this warp's inputs, in words from `first` on."""
    thread, share = cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y, rows // (THREADS // WARP)
    begin = thread // WARP * share
    for s in range(live):
        for k in range(begin + 2 * (thread % WARP), min(begin + share, neurons), 2 * WARP):
            a, b = receive(words, first + s * rows + k, tag)
            put_number(inputs, at_term(s * rows + k), a)
            put_number(inputs, at_term(s * rows + k) + 1, b)
    sync_warp()


@part
def multiply(own, live, rows, inputs, sums):
    """Leave this thread's part of inputs times matrix, for each sample."""
    parts = cuda.local.array(PARTS, np.float32)
    lane, high, across = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    for s in range(live):
        for j in range(EACH):
            parts[j] = 0
        for i in range(0, TERMS, 4):
            a, b, c, d = four(inputs, at_term(s * rows) + PITCH * high + i)
            for j in range(EACH):
                parts[j] += a * own[EACH * i + j]
            for j in range(EACH):
                parts[j] += b * own[EACH * (i + 1) + j]
            for j in range(EACH):
                parts[j] += c * own[EACH * (i + 2) + j]
            for j in range(EACH):
                parts[j] += d * own[EACH * (i + 3) + j]
        for j in range(0, EACH, 4):
            put_four(
                sums, s * SUMS + EACH * across * high + 4 * lane + j * across, parts[j], parts[j + 1], parts[j + 2],
                parts[j + 3],
            )  # fmt: skip


@part
def add_up(sums, at):
    """A column of inputs times matrix: the sum of what threads left from `at` on, always in the same order."""
    first, second, third, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    columns = EACH * cuda.blockDim.x
    for _ in range(cuda.blockDim.y // 8):
        first += number(sums, at) + number(sums, at + columns)
        second += number(sums, at + 2 * columns) + number(sums, at + 3 * columns)
        third += number(sums, at + 4 * columns) + number(sums, at + 5 * columns)
        fourth += number(sums, at + 6 * columns) + number(sums, at + 7 * columns)
        at += 8 * columns
    return (first + second) + (third + fourth)


@bounded(THREADS)
def forward_spread(
    first, samples, rows, current, weight, bias, beta, threshold, levels, spk0, mem0, reset, delay, words, mem,
    potential,
):  # fmt: skip
    """Eqs. (1) to (4) and (9) for groups from `first` on; arguments as in lif.lif_forward."""
    floats = cuda.shared.array(0, np.float32)
    own = cuda.local.array(OWN, np.float32)
    steps, batch, neurons = mem.shape
    lane, high, group, columns = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y, EACH * cuda.blockDim.x
    row, column = (first + group) * samples, columns * cuda.blockIdx.x
    live = min(samples, batch - row)
    s, c = high // EACH, cuda.blockDim.x * (high % EACH) + lane
    n = column + c
    e = (row + s) * neurons + n
    alive, sends = s < live and n < neurons, s < live and n < neurons + neurons % 2
    inputs = floats[2 * samples * SUMS :]
    for k in range(cuda.blockDim.x * high + lane, inputs.shape[0], THREADS):
        inputs[k] = 0
    for k in range(0, TERMS, TERMS // 4):
        keep(weight, column, k, own)
    half, base = words.shape[0] // 3, group * samples * rows
    sent = number(words, 2 * half + group)
    cuda.syncthreads()

    zero = np.float32(0)
    u = decay = theta = i = zero
    moving = current.shape[0] > 1
    if alive:
        u, decay, theta = number(mem0, e), beta[n], threshold[n]
        i = number(current, e)
    take_inputs(spk0, row, live, rows, inputs)
    for t in range(steps):
        sums = floats[t % 2 * samples * SUMS :]
        multiply(own, live, rows, inputs, sums)
        cuda.syncthreads()
        m = fired = zero
        if alive:
            i += add_up(sums, s * SUMS + c)
            if bias is not None:
                i += number(bias, n)
            m = potential_of(u, i, decay, theta, levels, reset)
            fired = spike(m - theta)
        there, tag = (t + 1) % 2 * half + base, np.uint32(sent + np.uint64(t + 1))
        if sends and t + 1 < steps:
            send(words, there + s * rows + n, fired, tag)
        if alive:
            u = settled(u, m, fired, theta, reset, delay)
            put_number(potential, t * batch * neurons + e, m)
            put_number(mem, t * batch * neurons + e, u)
        if t + 1 < steps:
            if alive:
                i = number(current, (t + 1) * moving * batch * neurons + e)
            receive_inputs(words, there, live, rows, neurons, tag, inputs)
    if lane == 0 and high == 0 and column == 0:
        put_number(words, 2 * half + group, sent + np.uint64(steps))


@bounded(THREADS)
def backward_spread(
    first, samples, rows, dspk, dmem, weight, beta, threshold, mem0, mem, potential, kind, a, b, reset, delay, learn,
    words, initial, dcurrent, dspk0, dmem0, dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11) for groups from `first` on; arguments as in lif.lif_backward."""
    floats = cuda.shared.array(0, np.float32)
    own = cuda.local.array(OWN, np.float32)
    steps, batch, neurons = mem.shape
    lane, high, group, columns = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y, EACH * cuda.blockDim.x
    row, column = (first + group) * samples, columns * cuda.blockIdx.x
    live = min(samples, batch - row)
    s, c = high // EACH, cuda.blockDim.x * (high % EACH) + lane
    n = column + c
    e = (row + s) * neurons + n
    alive, sends = s < live and n < neurons, s < live and n < neurons + neurons % 2
    inputs = floats[2 * samples * SUMS :]
    for k in range(cuda.blockDim.x * high + lane, inputs.shape[0], THREADS):
        inputs[k] = 0
    for k in range(0, TERMS, TERMS // 4):
        keep(weight, column, k, own)
    half, base = words.shape[0] // 3, group * samples * rows
    sent = number(words, 2 * half + group)
    cuda.syncthreads()

    of_spk = e if dspk.shape[1] >= batch else n
    of_mem = e if dmem.shape[1] >= batch else n
    spk_t, mem_t = dspk.shape[0] > 1, dmem.shape[0] > 1
    zero, one = np.float32(0), np.float32(1)
    d = carry = dbeta_here = dthreshold_here = after = decay = theta = zero
    m = u = gs = gu = h = zero
    now = (steps - 1) * batch * neurons
    if alive:
        after, decay, theta = number(mem, now + e), beta[n], threshold[n]
        m, u = number(potential, now + e), number(mem, now - batch * neurons + e) if steps > 1 else number(mem0, e)
        gs, gu = number(dspk, now * spk_t + of_spk), number(dmem, now * mem_t + of_mem)
        if learn & MORE:
            d, carry = number(dcurrent, steps * batch * neurons + e), number(dspk0, e)
    for t in range(steps - 1, -1, -1):
        next_m = next_u = next_gs = next_gu = zero
        if alive:
            h = surrogate(m - theta, kind, a, b)
            if t > 0:  # asked for a step before it is read
                now = (t - 1) * batch * neurons
                next_m = number(potential, now + e)
                next_u = number(mem, now - batch * neurons + e) if t > 1 else number(mem0, e)
                next_gs, next_gu = number(dspk, now * spk_t + of_spk), number(dmem, now * mem_t + of_mem)
        there, tag = t % 2 * half + base, np.uint32(sent + np.uint64(steps - 1 - t))
        if t + 1 < steps:
            receive_inputs(words, there, live, rows, neurons, tag, inputs)
            sums = floats[t % 2 * samples * SUMS :]
            multiply(own, live, rows, inputs, sums)
            cuda.syncthreads()
            if alive:
                carry = add_up(sums, s * SUMS + c)
        if alive:
            d, of_beta, of_threshold = adjoint(gs + carry, gu, d, m, u, after, decay, theta, one, h, reset, delay)
            dbeta_here += of_beta
            dthreshold_here += of_threshold
        there = (t + 1) % 2 * half + base
        if sends and (t > 0 or initial):
            send(words, there + s * rows + n, d, tag + np.uint32(1))
        if alive:
            put_number(dcurrent, t * batch * neurons + e, d)
        after, m, u, gs, gu = u, next_m, next_u, next_gs, next_gu
    if initial:
        receive_inputs(words, half + base, live, rows, neurons, np.uint32(sent + np.uint64(steps)), inputs)
        sums = floats[samples * SUMS :]
        multiply(own, live, rows, inputs, sums)
        cuda.syncthreads()
        if alive:
            put_number(dspk0, e, add_up(sums, s * SUMS + c))
            put_number(dmem0, e, decay * lif_through_leak(d, after, theta, reset))
    if alive and learn & WANTED:
        put_number(dbeta, e, dbeta_here + (number(dbeta, e) if learn & MORE else zero))
        put_number(dthreshold, e, dthreshold_here + (number(dthreshold, e) if learn & MORE else zero))
    if lane == 0 and high == 0 and column == 0:
        put_number(words, 2 * half + group, sent + np.uint64(steps + 1))


@elementwise(lambda potential, threshold, spk: spk.size)
def pack_spikes(potential, threshold, spk):
    """Eq. (3) as bits: spk (T, B, ceil(N/64)) from m (T, B, N)."""
    i = cuda.grid(1)
    if i < spk.size:
        row, w = divmod(i, spk.shape[2])
        t, b = divmod(row, spk.shape[1])
        word = np.uint64(0)
        for n in range(64 * w, min(64 * w + 64, threshold.shape[0])):
            if potential[t, b, n] - threshold[n] > 0:
                word |= word_bit(n)
        spk[t, b, w] = word
