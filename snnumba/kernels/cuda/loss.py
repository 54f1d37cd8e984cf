"""Losses over (T, B, N) outputs, value and gradient: what is read from an output, then a criterion on what was read.

Eqs. (1) to (5) are those of kernels/cpu/loss.py. A thread has an output of a sample, or what stands there, and goes
through its steps in order; in (5) a block has a sample, and each thread some of its steps.
"""

import math

from ._driver import SIMULATED, cuda, elementwise, kernel
from ._sums import total_of

STEPS = 2 if SIMULATED else 32  # of a sample that are at work at a time in (5)
SUMS = (STEPS,)


@elementwise(lambda spk, x: x.size)
def count_forward(spk, x):
    """Eq. (1).

    Parameters
    ----------
    spk : (T, B, N) float
    x : (1, B, K) float          written in full; class k has the k-th of K equal blocks of outputs
    """
    i = cuda.grid(1)
    if i < x.size:
        b, k = divmod(i, x.shape[2])
        size = spk.shape[2] // x.shape[2]
        count = x.dtype.type(0)
        for t in range(spk.shape[0]):
            for j in range(k * size, (k + 1) * size):
                count += spk[t, b, j]
        x[0, b, k] = count


@elementwise(lambda dx, dspk: dspk.size)
def count_backward(dx, dspk):
    """Eq. (1): dx (1, B, K) float to dspk (T, B, N) float, written in full."""
    i = cuda.grid(1)
    if i < dspk.size:
        row, n = divmod(i, dspk.shape[2])
        t, b = divmod(row, dspk.shape[1])
        dspk[t, b, n] = dx[0, b, n // (dspk.shape[2] // dx.shape[2])]


@elementwise(lambda mem, x, step: x.size)
def peak_forward(mem, x, step):
    """Eq. (2).

    Parameters
    ----------
    mem : (T, B, N) float
    x : (1, B, N) float          written in full
    step : (B, N) int64          written in full: where the peak is
    """
    i = cuda.grid(1)
    if i < x.size:
        b, n = divmod(i, x.shape[2])
        peak, first = mem[0, b, n], 0
        for t in range(1, mem.shape[0]):
            u = mem[t, b, n]
            if u > peak:
                peak, first = u, t
        x[0, b, n] = peak
        step[b, n] = first


@elementwise(lambda spk, reciprocal, x, step: x.size)
def first_spike_forward(spk, reciprocal, x, step):
    """Eq. (3).

    Parameters
    ----------
    spk : (T, B, N) float
    reciprocal : bool            x is 1/(f + 1), else -f
    x : (1, B, N) float          written in full
    step : (B, N) int64          written in full: f
    """
    i = cuda.grid(1)
    if i < x.size:
        b, n = divmod(i, x.shape[2])
        first = 0
        while first < spk.shape[0] - 1 and spk[first, b, n] == 0:
            first += 1
        step[b, n] = first
        x[0, b, n] = x.dtype.type(1) / x.dtype.type(first + 1) if reciprocal else x.dtype.type(-first)


@elementwise(lambda dx, step, x, doutput: doutput.size)
def at_step_backward(dx, step, x, doutput):
    """Eqs. (2) and (3).

    Parameters
    ----------
    dx : (1, B, N) float
    step : (B, N) int64              where the peak or f is
    x : None or (1, B, N) float      1/(f + 1), if that was read
    doutput : (T, B, N) float        written in full
    """
    i = cuda.grid(1)
    if i < doutput.size:
        row, n = divmod(i, doutput.shape[2])
        t, b = divmod(row, doutput.shape[1])
        change = dx[0, b, n] if x is None else dx[0, b, n] * x[0, b, n] * x[0, b, n]
        doutput[t, b, n] = change if step[b, n] == t else dx.dtype.type(0)


@elementwise(lambda labels, on, off, target: target.size)
def class_targets(labels, on, off, target):
    """target (1, B, K) float, written in full: `on` for the class of the label, labels (B,) int64, `off` for others."""
    i = cuda.grid(1)
    if i < target.size:
        b, k = divmod(i, target.shape[2])
        target[0, b, k] = on if labels[b] == k else off


@elementwise(lambda x, target, weight, tolerance, factor, dx, loss: loss.size)
def squared_error(x, target, weight, tolerance, factor, dx, loss):
    """Eq. (4).

    Parameters
    ----------
    x : (S, B, K) float
    target : (S, B, K) or (1, B, K) float       the same at every step where it has one only
    weight : (K,) float
    tolerance : float
    factor : float                              the gradient is to be factor w e
    dx : (S, B, K) float                        written in full
    loss : (B, K) float                         written in full: l
    """
    i = cuda.grid(1)
    if i < loss.size:
        b, k = divmod(i, loss.shape[1])
        each = target.shape[0] > 1
        total = loss.dtype.type(0)
        for s in range(x.shape[0]):
            error = x[s, b, k] - target[s * each, b, k]
            if abs(error) < tolerance:
                error = x.dtype.type(0)
            total += weight[k] * error * error
            dx[s, b, k] = weight[k] * error * factor
        loss[b, k] = total


@kernel
def add_cross_entropy(x, labels, weight, factor, dx, loss):
    """cross_entropy, of the sample of this block."""
    shared = cuda.shared.array(SUMS, x.dtype)
    thread, b = cuda.threadIdx.x, cuda.blockIdx.x
    y, classes = labels[b], x.shape[2]
    scale = weight[y] * factor
    loss_here = x.dtype.type(0)
    for s in range(thread, x.shape[0], cuda.blockDim.x):
        top = x[s, b, 0]
        for k in range(1, classes):
            top = max(top, x[s, b, k])
        total = x.dtype.type(0)
        for k in range(classes):
            dx[s, b, k] = math.exp(x[s, b, k] - top)  # at most 1: no overflow
            total += dx[s, b, k]
        loss_here += weight[y] * (math.log(total) + (top - x[s, b, y]))
        for k in range(classes):
            dx[s, b, k] *= scale / total
        dx[s, b, y] -= scale
    loss_here = total_of(loss_here, shared)
    if thread == 0:
        loss[b] = loss_here


def cross_entropy(x, labels, weight, factor, dx, loss):
    """Eq. (5).

    Parameters
    ----------
    x : (S, B, K) float
    labels : (B,) int64
    weight : (K,) float
    factor : float               the gradient is to be factor w[y] (softmax x - onehot y)
    dx : (S, B, K) float         written in full
    loss : (B,) float            written in full: l
    """
    add_cross_entropy.launch(labels.shape[0], min(STEPS, x.shape[0]), x, labels, weight, factor, dx, loss)


__all__ = [
    "at_step_backward",
    "class_targets",
    "count_backward",
    "count_forward",
    "cross_entropy",
    "first_spike_forward",
    "peak_forward",
    "squared_error",
]
