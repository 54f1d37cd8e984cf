"""Losses over (T, B, N) outputs, value and gradient: what is read from an output, then a criterion on what was read.

s spikes, u membranes, (T, B, N); x what was read, (S, B, K): S is T where every step counts for itself, else 1, and K
is how many classes there are. d is a gradient, dx = dl/dx; y the label of a sample, w the weights of the classes.

    (1) count          x = sum_t sum_n s[t], over the N/K outputs n of the class;     ds[t] = dx
    (2) peak           x = max_t u[t];                                                du[t] = dx at its first t, else 0
    (3) first spike    f = the first t with s[t] != 0, T - 1 where none is, and x = -f or 1/(f + 1): how early;
                       ds[t] = dx or x^2 dx at t = f, else 0: a stronger spike is taken for an earlier one
    (4) squared error  l = w sum_S e^2, e = x - target, 0 where |e| < tolerance;      dx = 2 w e
    (5) cross-entropy  l = w[y] sum_S (log sum_k exp x_k - x_y);                      dx = w[y] (softmax x - onehot y)

Source of (3): the sign estimate of Eshraghian et al. 2023, arXiv:2109.12894.
"""

import math

from ._compile import kernel
from .bits import copy_row
from .dense import BLOCK


@kernel(lambda spk, *_: spk.shape[1], grain=BLOCK)
def count_forward(begin, end, spk, x):
    """Eq. (1).

    Parameters
    ----------
    spk : (T, B, N) float
    x : (1, B, K) float          written in full; class k has the k-th of K equal blocks of outputs
    """
    classes = x.shape[2]
    size = spk.shape[2] // classes
    counts = x.reshape(-1)[begin * classes : end * classes]  # the classes of all samples: one long row
    counts[:] = 0
    for t in range(spk.shape[0]):
        row = spk[t].reshape(-1)[begin * classes * size : end * classes * size]
        if size == 1:  # the same as below, ten times as fast
            for k in range(counts.size):
                counts[k] += row[k]
        else:
            for k in range(counts.size):
                for j in range(size):
                    counts[k] += row[k * size + j]


@kernel(lambda dx, *_: dx.shape[1], grain=BLOCK)
def count_backward(begin, end, dx, dspk):
    """Eq. (1): dx (1, B, K) float to dspk (T, B, N) float, written in full."""
    classes = dx.shape[2]
    size = dspk.shape[2] // classes
    dcounts = dx.reshape(-1)[begin * classes : end * classes]
    for t in range(dspk.shape[0]):
        row = dspk[t].reshape(-1)[begin * classes * size : end * classes * size]
        if size == 1:
            for k in range(dcounts.size):
                row[k] = dcounts[k]
        else:
            for k in range(dcounts.size):
                for j in range(size):
                    row[k * size + j] = dcounts[k]


@kernel(lambda mem, *_: mem.shape[1], grain=BLOCK)
def peak_forward(begin, end, mem, x, step):
    """Eq. (2).

    Parameters
    ----------
    mem : (T, B, N) float
    x : (1, B, N) float          written in full
    step : (B, N) int64          written in full: where the peak is
    """
    steps, _, outputs = mem.shape
    for b in range(begin, end):
        copy_row(mem[0, b], x[0, b])
        step[b] = 0
        for t in range(1, steps):
            for n in range(outputs):
                if mem[t, b, n] > x[0, b, n]:
                    x[0, b, n] = mem[t, b, n]
                    step[b, n] = t


@kernel(lambda spk, *_: spk.shape[1], grain=BLOCK)
def first_spike_forward(begin, end, spk, reciprocal, x, step):
    """Eq. (3).

    Parameters
    ----------
    spk : (T, B, N) float
    reciprocal : bool            x is 1/(f + 1), else -f
    x : (1, B, N) float          written in full
    step : (B, N) int64          written in full: f
    """
    steps, _, outputs = spk.shape
    for b in range(begin, end):
        for n in range(outputs):
            first = 0
            while first < steps - 1 and spk[first, b, n] == 0:
                first += 1
            step[b, n] = first
            x[0, b, n] = 1 / (first + 1) if reciprocal else -first


@kernel(lambda dx, *_: dx.shape[1], grain=BLOCK)
def at_step_backward(begin, end, dx, step, x, doutput):
    """Eqs. (2) and (3).

    Parameters
    ----------
    dx : (1, B, N) float
    step : (B, N) int64              where the peak or f is
    x : None or (1, B, N) float      1/(f + 1), if that was read
    doutput : (T, B, N) float        written in full
    """
    steps, _, outputs = doutput.shape
    for b in range(begin, end):
        for t in range(steps):
            doutput[t, b] = 0
        for n in range(outputs):
            doutput[step[b, n], b, n] = dx[0, b, n] if x is None else dx[0, b, n] * x[0, b, n] * x[0, b, n]


@kernel(lambda labels, *_: labels.shape[0], grain=BLOCK)
def class_targets(begin, end, labels, on, off, target):
    """target (1, B, K) float, written in full: `on` for the class of the label, labels (B,) int64, `off` for others."""
    for b in range(begin, end):
        target[0, b] = off
        target[0, b, labels[b]] = on


@kernel(lambda x, *_: x.shape[1], grain=BLOCK)
def squared_error(begin, end, x, target, weight, tolerance, factor, dx, loss):
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
    steps, _, classes = x.shape
    each = target.shape[0] > 1
    for b in range(begin, end):
        loss[b] = 0
        for s in range(steps):
            for k in range(classes):
                error = x[s, b, k] - target[s if each else 0, b, k]
                if abs(error) < tolerance:
                    dx[s, b, k] = 0
                else:
                    loss[b, k] += weight[k] * error * error
                    dx[s, b, k] = weight[k] * error * factor


@kernel(lambda x, *_: x.shape[1], grain=BLOCK)
def cross_entropy(begin, end, x, labels, weight, factor, dx, loss):
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
    steps, _, classes = x.shape
    for b in range(begin, end):
        y = labels[b]
        scale = weight[y] * factor
        loss[b] = 0
        for s in range(steps):
            top = x[s, b, 0]
            for k in range(1, classes):
                top = max(top, x[s, b, k])
            total = x.dtype.type(0)
            for k in range(classes):
                dx[s, b, k] = math.exp(x[s, b, k] - top)  # at most 1: no overflow
                total += dx[s, b, k]
            loss[b] += weight[y] * (math.log(total) + (top - x[s, b, y]))
            for k in range(classes):
                dx[s, b, k] *= scale / total
            dx[s, b, y] -= scale


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
