"""Leaky integrate-and-fire neurons, all steps in one launch: a thread has a neuron of a sample, its state in registers.

A block has some samples, and of each all the neurons or, where they do not depend on each other, a stretch of them.
Spikes go round as bits in shared memory. At a step one set of bits is read, one is written, and one is cleared for the
step after: so a step needs one barrier. The matrix of a linear feedback stays in shared memory for all steps. Of a
large one, shares of the threads multiply a part of the rows each, and the first share has the neurons: then a step has
a barrier more. What a step reads of global memory is asked for a step before.

Shared memory, in this order: the matrix; of each thread, m - theta for inhibition, or its sum; then the sets of bits,
or d of each neuron at two steps.
"""

import numpy as np

from ._driver import cuda, kernel, part, rules
from ._lif import add_chosen_rows, add_row, adjoint, halves_for, is_largest, potential_of, settled
from ._ptx import commit, waiter
from ._together import copy_four, number
from .bits import bit, word_of

spike, surrogate, lif_through_leak = rules.spike, rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE
await_all = waiter(0)


@part
def load_matrix(weight, floats, thread, threads):
    """Begin to copy a linear feedback's matrix to shared memory; how many numbers that takes."""
    if weight is None:
        return 0
    if weight.ndim == 1:
        return 0
    if weight.itemsize == 4 and weight.size % 4 == 0:
        for e in range(4 * thread, weight.size, 4 * threads):
            copy_four(weight, e, floats, e)
        commit()
    else:
        for e in range(thread, weight.size, threads):
            floats[e] = number(weight, e)
    return weight.size


@part
def clear(halves, first, size, thread, threads):
    """So many halves from `first` on = 0; `range` would divide to count its turns."""
    while thread < size:
        halves[first + thread] = 0
        thread += threads


@part
def part_of(items, share, shares):
    """How many of the items the shares before this one have; there are 1, 2, or 4 shares."""
    return items * share >> shares // 2


@part
def added_up(values, thread, stacked, x):
    """For the first share of the threads: the sum of what each share has, in order."""
    if cuda.blockDim.z > 1:
        values[thread] = x
        cuda.syncthreads()
        if cuda.threadIdx.z == 0:
            for share in range(1, cuda.blockDim.z):
                x += values[share * stacked + thread]
    return x


@kernel
def forward_resident(
    current, weight, bias, beta, threshold, levels, spk0, mem0, inhibition, reset, delay, mem, potential, spk
):  # fmt: skip
    """Eqs. (1) to (4) and (9); arguments as in lif.lif_forward."""
    steps, batch, neurons = mem.shape
    width, lane, row, share, shares = (
        cuda.blockDim.x,
        cuda.threadIdx.x,
        cuda.threadIdx.y,
        cuda.threadIdx.z,
        cuda.blockDim.z,
    )
    stacked = width * cuda.blockDim.y
    thread, threads = share * stacked + row * width + lane, shares * stacked
    b, first = cuda.blockIdx.x * cuda.blockDim.y + row, cuda.blockIdx.y * width
    n = first + lane
    alive = share == 0 and b < batch and n < neurons

    floats = cuda.shared.array(0, mem.dtype)
    used = load_matrix(weight, floats, thread, threads)
    values = floats[used : used + threads]
    halves = cuda.shared.array(0, np.uint32)[(used + threads) * mem.itemsize // 4 :]
    count = halves_for(width)
    size = count * cuda.blockDim.y
    clear(halves, 0, 3 * size, thread, threads)
    cuda.syncthreads()

    zero = mem.dtype.type(0)
    u = s = decay = theta = shift = one_to_one = i = zero
    if alive:
        u, s, decay, theta, i = mem0[b, n], spk0[b, n], beta[n], threshold[n], current[0, b, n]
        if bias is not None:
            shift = bias[n]
        if weight is not None and weight.ndim == 1:
            one_to_one = weight[n]
        if s != 0:
            cuda.atomic.or_(halves, row * count + lane // 32, bit(lane))
    await_all()
    cuda.syncthreads()
    words = min(count // 2, spk.shape[2] - first // 64)
    if share == 0 and b < batch and lane < words:
        spk[0, b, first // 64 + lane] = word_of(halves, row * count // 2 + lane)

    begin, end = part_of(count, share, shares), part_of(count, share + 1, shares)
    for t in range(steps):
        now, after, later = t % 3 * size + row * count, (t + 1) % 3 * size + row * count, (t + 2) % 3 * size
        next_i = zero
        if alive and t + 1 < steps:
            next_i = current[t + 1 if current.shape[0] > 1 else 0, b, n]
        if bias is not None:
            i += shift
        if weight is not None:
            if weight.ndim == 1:
                i += one_to_one * s
            else:
                if b < batch and n < neurons:
                    rows = floats[32 * begin * neurons :]
                    if t == 0:
                        x = spk0[b, 32 * begin :]
                        i = add_chosen_rows(halves, now + begin, end - begin, x, rows, neurons, n, i)
                    else:
                        i = add_chosen_rows(halves, now + begin, end - begin, None, rows, neurons, n, i)
                i = added_up(values, thread, stacked, i)
        m = zero
        if alive:
            m = potential_of(u, i, decay, theta, levels, reset)
        i = next_i
        s = spike(m - theta)
        if inhibition:
            values[thread] = m - theta
            cuda.syncthreads()
            if not is_largest(values, row * width, width, lane):
                s = zero
        if alive:
            u = settled(u, m, s, theta, reset, delay)
            potential[t, b, n] = m
            mem[t, b, n] = u
            if s != 0:
                cuda.atomic.or_(halves, after + lane // 32, bit(lane))
        clear(halves, later, size, thread, threads)
        cuda.syncthreads()
        if share == 0 and b < batch and lane < words:
            spk[t + 1, b, first // 64 + lane] = word_of(halves, after // 2 + lane)


@kernel
def backward_resident(
    dspk, dmem, weight, beta, threshold, inhibition, mem0, mem, potential, kind, a, b, reset, delay, learn, initial,
    dcurrent, dspk0, dmem0, dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11); arguments as in lif.lif_backward."""
    steps, batch, neurons = mem.shape
    width, lane, row, share, shares = (
        cuda.blockDim.x,
        cuda.threadIdx.x,
        cuda.threadIdx.y,
        cuda.threadIdx.z,
        cuda.blockDim.z,
    )
    stacked = width * cuda.blockDim.y
    thread, threads = share * stacked + row * width + lane, shares * stacked
    r, n = cuda.blockIdx.x * cuda.blockDim.y + row, cuda.blockIdx.y * width + lane
    alive = share == 0 and r < batch and n < neurons
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] >= batch
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] >= batch

    floats = cuda.shared.array(0, mem.dtype)
    used = load_matrix(weight, floats, thread, threads)
    values = floats[used : used + threads]
    ds = floats[used + threads :]  # d of a step is read while that of the one before is written

    zero = mem.dtype.type(0)
    carry = d = dbeta_here = dthreshold_here = after = decay = theta = zero
    one_to_one = m = u = gs = gu = zero
    if alive:
        after, decay, theta = mem[steps - 1, r, n], beta[n], threshold[n]
        m, u = potential[steps - 1, r, n], mem[steps - 2, r, n] if steps > 1 else mem0[r, n]
        gs, gu = dspk[(steps - 1) * spk_t, r * spk_b, n], dmem[(steps - 1) * mem_t, r * mem_b, n]
        if weight is not None and weight.ndim == 1:
            one_to_one = weight[n]
        if learn & MORE:
            d, carry = dcurrent[steps, r, n], dspk0[r, n]
    begin, end = part_of(neurons, share, shares), part_of(neurons, share + 1, shares)
    await_all()
    for t in range(steps - 1, -1, -1):
        won = mem.dtype.type(1)
        if inhibition:
            values[thread] = m - theta
            cuda.syncthreads()
            if not is_largest(values, row * width, width, lane):
                won = zero
            cuda.syncthreads()
        h = surrogate(m - theta, kind, a, b) * won
        d, of_beta, of_threshold = adjoint(gs + carry, gu, d, m, u, after, decay, theta, won, h, reset, delay)
        after = u
        dbeta_here += of_beta
        dthreshold_here += of_threshold
        if alive:
            dcurrent[t, r, n] = d
            if t > 0:  # asked for before it is needed
                m, u = potential[t - 1, r, n], mem[t - 2, r, n] if t > 1 else mem0[r, n]
                gs, gu = dspk[(t - 1) * spk_t, r * spk_b, n], dmem[(t - 1) * mem_t, r * mem_b, n]
        if weight is not None:
            if weight.ndim == 1:
                carry = one_to_one * d
            else:
                turn = t % 2 * stacked + row * width
                if share == 0:
                    ds[turn + lane] = d
                cuda.syncthreads()
                if t > 0 or initial:
                    carry = zero
                    if r < batch and n < neurons:
                        carry = add_row(ds[turn + begin : turn + end], floats[begin * neurons :], neurons, n, zero)
                    carry = added_up(values, thread, stacked, carry)
    if alive:
        if learn & WANTED:
            dbeta[r, n] = dbeta_here + (dbeta[r, n] if learn & MORE else zero)
            dthreshold[r, n] = dthreshold_here + (dthreshold[r, n] if learn & MORE else zero)
        if initial:
            dspk0[r, n] = carry
            dmem0[r, n] = decay * lif_through_leak(d, after, theta, reset)
