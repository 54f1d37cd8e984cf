"""Spiking LSTM cells: what a thread does for one at a step, and the kernels; eqs. (l1) to (l8) are in rules.py and
cpu/lstm.py.

In the `together` kernels a block has a sample and does all steps, with h in shared memory and the weights read from the
caches. The `step` kernels do one step of all samples, where a product of dense.py has come before.
"""

import math

import numpy as np

from ._driver import cuda, kernel, part, rules
from ._lif import halves_for
from ._lif_striding import ONE_EACH, hand_out, winner
from .bits import bit, word_bit

logistic, lstm_cell, lstm_output, nearest = rules.logistic, rules.lstm_cell, rules.lstm_output, rules.nearest
lstm_reset, lstm_through_reset, lstm_adjoint = rules.lstm_reset, rules.lstm_through_reset, rules.lstm_adjoint
lstm_dthreshold, spike, surrogate = rules.lstm_dthreshold, rules.spike, rules.surrogate
WANTED, MORE = rules.WANTED, rules.MORE


@part
def cell(current, gates, n, size, c, h, threshold, levels, reset):
    """Eqs. (l1) to (l3) and (l7) for cell n of `size`: c' and h'; gates hold h Whh^T, and then i, f, g, o."""
    i, f = logistic(current[n] + gates[n]), logistic(current[size + n] + gates[size + n])
    g = math.tanh(current[2 * size + n] + gates[2 * size + n])
    o = logistic(current[3 * size + n] + gates[3 * size + n])
    gates[n], gates[size + n], gates[2 * size + n], gates[3 * size + n] = i, f, g, o
    c = lstm_cell(i, f, g, c)
    h = lstm_reset(lstm_output(o, c), h, threshold, reset)
    if levels is None:
        return c, h
    return nearest(c, levels), nearest(h, levels)


@part
def cell_back(dspk, a_c, a_h, gates, n, size, c, h, threshold, p, reset, d):
    """Eqs. (l4) to (l6) for cell n: a_c of the step before and dL/dtheta; d is written."""
    i, f, g, o = gates[n], gates[size + n], gates[2 * size + n], gates[3 * size + n]
    through = p * dspk
    a = a_h + through
    dthreshold = lstm_dthreshold(through, a, h, threshold, reset)
    a_q = lstm_through_reset(a, h, threshold, reset)
    squashed = math.tanh(lstm_cell(i, f, g, c))
    a_c, d[n], d[size + n], d[2 * size + n], d[3 * size + n] = lstm_adjoint(a_c, a_q, squashed, i, f, g, o, c)
    return a_c * f, dthreshold


@kernel
def forward_together(
    current, weight, threshold, levels, syn0, mem0, inhibition, reset, gates, syn, mem, spk
):  # fmt: skip
    """Eqs. (l1) to (l4) and (l7); arguments as in lstm.lstm_forward."""
    values = cuda.shared.array(ONE_EACH, mem.dtype)
    places = cuda.shared.array(ONE_EACH, np.int64)
    h = cuda.shared.array(0, mem.dtype)
    steps, _, size = mem.shape
    halves = cuda.shared.array(0, np.uint32)[size * mem.itemsize // 4 :]
    thread, stride, b = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    for n in range(thread, size, stride):
        h[n] = mem0[b, n]
    for e in range(thread, halves_for(size), stride):
        halves[e] = 0
    cuda.syncthreads()
    for t in range(steps):
        for j in range(thread, 4 * size, stride):
            total = mem.dtype.type(0)
            for k in range(size):
                total += h[k] * weight[k, j]
            gates[t, b, j] = total
        cuda.syncthreads()
        best, place = mem.dtype.type(0), -1
        for n in range(thread, size, stride):
            c = syn[t - 1, b, n] if t > 0 else syn0[b, n]
            now = current[t if current.shape[0] > 1 else 0, b]
            syn[t, b, n], h[n] = cell(now, gates[t, b], n, size, c, h[n], threshold[n], levels, reset)
            mem[t, b, n] = h[n]
            if place < 0 or h[n] - threshold[n] > best:
                best, place = h[n] - threshold[n], n
        if inhibition:
            place = winner(best, place, values, places)
        for n in range(thread, size, stride):
            if h[n] - threshold[n] > 0 and (n == place or not inhibition):
                cuda.atomic.or_(halves, n // 32, bit(n))
        hand_out(halves, spk[t, b])


@kernel
def backward_together(
    dspk, dsyn, dmem, weight, threshold, inhibition, syn0, mem0, gates, syn, mem, kind, a, b, reset, learn, d, dsyn0,
    dmem0, dthreshold,
):  # fmt: skip
    """Eqs. (l4) to (l6) and (l8); arguments as in lstm.lstm_backward."""
    values = cuda.shared.array(ONE_EACH, mem.dtype)
    places = cuda.shared.array(ONE_EACH, np.int64)
    steps, _, size = mem.shape
    thread, stride, r = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    zero, one = mem.dtype.type(0), mem.dtype.type(1)
    for n in range(thread, size, stride):
        if learn & MORE == 0:
            dsyn0[r, n] = zero
            dmem0[r, n] = zero
        if learn == WANTED:
            dthreshold[r, n] = zero
    for t in range(steps - 1, -1, -1):
        best, place = zero, -1
        if inhibition:
            for n in range(thread, size, stride):
                if place < 0 or mem[t, r, n] - threshold[n] > best:
                    best, place = mem[t, r, n] - threshold[n], n
            place = winner(best, place, values, places)
        for n in range(thread, size, stride):
            won = zero if inhibition and n != place else one
            p = surrogate(mem[t, r, n] - threshold[n], kind, a, b) * won
            c = syn[t - 1, r, n] if t > 0 else syn0[r, n]
            h = mem[t - 1, r, n] if t > 0 else mem0[r, n]
            gs, gc, gh = direct(dspk, t, r, n), direct(dsyn, t, r, n), direct(dmem, t, r, n)
            a_c, of_threshold = cell_back(
                gs, dsyn0[r, n] + gc, dmem0[r, n] + gh, gates[t, r], n, size, c, h, threshold[n], p, reset, d[t, r]
            )
            dsyn0[r, n] = a_c
            if learn & WANTED:
                dthreshold[r, n] += of_threshold
        cuda.syncthreads()
        for n in range(thread, size, stride):
            total = zero
            for j in range(4 * size):
                total += d[t, r, j] * weight[j, n]
            dmem0[r, n] = total


@part
def direct(d, t, b, n):
    """A direct gradient (T, B, N), or (1, 1, N) for all samples and steps."""
    return d[t if d.shape[0] > 1 else 0, b if d.shape[1] > 1 else 0, n]


@kernel
def forward_step(t, current, threshold, levels, syn0, mem0, reset, gates, syn, mem, spk):
    """Eqs. (l1) to (l4) and (l7) of step t, once gates[t] hold h Whh^T; spk[t] holds zeros."""
    _, batch, size = mem.shape
    b, n = divmod(cuda.grid(1), size)
    if b < batch:
        c = syn[t - 1, b, n] if t > 0 else syn0[b, n]
        h = mem[t - 1, b, n] if t > 0 else mem0[b, n]
        now = current[t if current.shape[0] > 1 else 0, b]
        syn[t, b, n], m = cell(now, gates[t, b], n, size, c, h, threshold[n], levels, reset)
        mem[t, b, n] = m
        if m - threshold[n] > 0:
            cuda.atomic.or_(spk, (t, b, n // 64), word_bit(n))


@kernel
def backward_step(
    t, dspk, dsyn, dmem, threshold, syn0, mem0, gates, syn, mem, kind, a, b, reset, learn, d, dsyn0, dmem0, dthreshold
):  # fmt: skip
    """Eqs. (l4) to (l6) of step t; dsyn0 and dmem0 hold what came back from the step after."""
    steps, batch, size = mem.shape
    r, n = divmod(cuda.grid(1), size)
    if r < batch:
        zero = mem.dtype.type(0)
        last = t + 1 == steps and learn & MORE == 0
        p = surrogate(mem[t, r, n] - threshold[n], kind, a, b)
        c = syn[t - 1, r, n] if t > 0 else syn0[r, n]
        h = mem[t - 1, r, n] if t > 0 else mem0[r, n]
        a_c = direct(dsyn, t, r, n) + (zero if last else dsyn0[r, n])
        a_h = direct(dmem, t, r, n) + (zero if last else dmem0[r, n])
        a_c, of_threshold = cell_back(
            direct(dspk, t, r, n), a_c, a_h, gates[t, r], n, size, c, h, threshold[n], p, reset, d[t, r]
        )
        dsyn0[r, n] = a_c
        if learn & WANTED:
            dthreshold[r, n] = of_threshold + (zero if last else dthreshold[r, n])
