"""Leaky integrate-and-fire neurons, all steps in one launch: a block has a sample, however many neurons it has.

A thread has every so-manieth neuron, whose state stays in global memory; a feedback's weights are read from there too.
For what _lif_resident.py has no room for, but for a large linear feedback, which _lif_tiled.py spreads over the device.

Spikes of a step are put together as bits in shared memory, and come back at the next one as words in global memory.
"""

import numpy as np

from ._driver import SIMULATED, cuda, kernel, part, rules
from ._lif import adjoint, halves_for, potential_of, settled
from .bits import bit, is_set, lowest, word_of
from .conv import correlate

spike, surrogate, lif_through_leak = rules.spike, rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE

STRIDE = 4 if SIMULATED else 256  # the threads of a block
ONE_EACH = (STRIDE,)


@part
def fed_back(x, bits, weight, window, n, i):
    """i + rec(x) at neuron n, eq. (9) without bias, or (10); x None: of ones where bits are set."""
    if weight is not None:
        if weight.ndim == 1:
            if x is None:
                if is_set(bits, n):
                    i += weight[n]
            else:
                i += weight[n] * x[n]
        elif weight.ndim == 2:
            if x is None:
                for w in range(bits.shape[0]):
                    word = bits[w]
                    while word != 0:
                        i += weight[64 * w + lowest(word), n]
                        word &= word - np.uint64(1)
            else:
                for k in range(x.shape[0]):
                    i += x[k] * weight[k, n]
        else:
            i += correlate(x, bits, weight, window, n)
    return i


@part
def winner(best, place, values, places):
    """The place of the largest of the values that threads have found, the first of equals; place is below 0 of none.

    Before the next call there must be a barrier.
    """
    thread = cuda.threadIdx.x
    values[thread], places[thread] = best, place
    cuda.syncthreads()
    for k in range(cuda.blockDim.x):
        if places[k] >= 0 and (place < 0 or values[k] > best or (values[k] == best and places[k] < place)):
            best, place = values[k], places[k]
    return place


@part
def hand_out(halves, words):
    """Copy bits from shared memory to a row of words, where all threads see them, and clear them."""
    cuda.syncthreads()
    for w in range(cuda.threadIdx.x, words.shape[0], cuda.blockDim.x):
        words[w] = word_of(halves, w)
        halves[2 * w] = halves[2 * w + 1] = 0
    cuda.syncthreads()


@kernel
def forward_striding(
    current, weight, bias, window, beta, threshold, levels, spk0, mem0, inhibition, reset, delay, mem, potential, spk
):  # fmt: skip
    """Eqs. (1) to (4) and (9); arguments as in lif.lif_forward."""
    values = cuda.shared.array(ONE_EACH, mem.dtype)
    places = cuda.shared.array(ONE_EACH, np.int64)
    halves = cuda.shared.array(0, np.uint32)
    steps, _, neurons = mem.shape
    thread, stride, b = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    for e in range(thread, halves_for(neurons), stride):
        halves[e] = 0
    cuda.syncthreads()
    for n in range(thread, neurons, stride):
        if spk0[b, n] != 0:
            cuda.atomic.or_(halves, n // 32, bit(n))
    hand_out(halves, spk[0, b])

    for t in range(steps):
        best, place = mem.dtype.type(0), -1
        for n in range(thread, neurons, stride):
            i = current[t if current.shape[0] > 1 else 0, b, n]
            if bias is not None:
                i += bias[n]
            if t == 0:
                i = fed_back(spk0[b], spk[0, b], weight, window, n, i)
            else:
                i = fed_back(None, spk[t, b], weight, window, n, i)
            u = mem[t - 1, b, n] if t > 0 else mem0[b, n]
            m = potential_of(u, i, beta[n], threshold[n], levels, reset)
            potential[t, b, n] = m
            if place < 0 or m - threshold[n] > best:
                best, place = m - threshold[n], n
        if inhibition:
            place = winner(best, place, values, places)
        for n in range(thread, neurons, stride):
            u = mem[t - 1, b, n] if t > 0 else mem0[b, n]
            m = potential[t, b, n]
            s = spike(m - threshold[n])
            if inhibition and n != place:
                s = mem.dtype.type(0)
            mem[t, b, n] = settled(u, m, s, threshold[n], reset, delay)
            if s != 0:
                cuda.atomic.or_(halves, n // 32, bit(n))
        hand_out(halves, spk[t + 1, b])


@kernel
def backward_striding(
    dspk, dmem, weight, window, no_bits, beta, threshold, inhibition, mem0, mem, potential, kind, a, b, reset, delay,
    learn, initial, dcurrent, dspk0, dmem0, dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11); arguments as in lif.lif_backward."""
    values = cuda.shared.array(ONE_EACH, mem.dtype)
    places = cuda.shared.array(ONE_EACH, np.int64)
    steps, batch, neurons = mem.shape
    thread, stride, r = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] >= batch
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] >= batch
    zero, one = mem.dtype.type(0), mem.dtype.type(1)
    for t in range(steps - 1, -1, -1):
        best, place = zero, -1
        if inhibition:
            for n in range(thread, neurons, stride):
                if place < 0 or potential[t, r, n] - threshold[n] > best:
                    best, place = potential[t, r, n] - threshold[n], n
            place = winner(best, place, values, places)
        for n in range(thread, neurons, stride):
            m = potential[t, r, n]
            u = mem[t - 1, r, n] if t > 0 else mem0[r, n]
            won = zero if inhibition and n != place else one
            a_s, next_d = dspk[t * spk_t, r * spk_b, n], zero
            more = t + 1 < steps or learn & MORE > 0
            if more:
                next_d = dcurrent[t + 1, r, n]
                a_s += fed_back(dcurrent[t + 1, r], no_bits, weight, window, n, zero)
            h = surrogate(m - threshold[n], kind, a, b) * won
            gu = dmem[t * mem_t, r * mem_b, n]
            d, of_beta, of_threshold = adjoint(
                a_s, gu, next_d, m, u, mem[t, r, n], beta[n], threshold[n], won, h, reset, delay
            )
            dcurrent[t, r, n] = d
            if learn & WANTED:
                dbeta[r, n] = of_beta + (dbeta[r, n] if more else zero)
                dthreshold[r, n] = of_threshold + (dthreshold[r, n] if more else zero)
        cuda.syncthreads()
    if initial:
        for n in range(thread, neurons, stride):
            dspk0[r, n] = fed_back(dcurrent[0, r], no_bits, weight, window, n, zero)
            dmem0[r, n] = beta[n] * lif_through_leak(dcurrent[0, r, n], mem0[r, n], threshold[n], reset)
