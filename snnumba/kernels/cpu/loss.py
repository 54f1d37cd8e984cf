"""Losses over (T, B, C) arrays, value and gradient, and what a classifier reads from its output.

    (1) count loss:    c = sum_t s[t],  e = c - target,   L = sum_BC e^2 / (B C T),    dL/ds[t] = 2 e / (B C T)
    (2) membrane loss: e[t] = u[t] - target,              L = sum_TBC e[t]^2 / (T B C), dL/du[t] = 2 e[t] / (T B C)

target is `on` for the neuron of the label and `off` for the others. The kernels write each sample's sum of squares; who
calls divides.
"""

from ._compile import kernel


@kernel(lambda spk, *_: spk.shape[1], grain=256)
def mse_count(begin, end, spk, labels, on, off, factor, dspk, loss):
    """Eq. (1).

    Parameters
    ----------
    spk : (T, B, C) float
    labels : (B,) int64
    on, off : float                  the counts asked for
    factor : float                   2 / (B C T)
    dspk : (T, B, C) float           written in full
    loss : (B,) float                written in full: the sample's sum of squares
    """
    steps, _, classes = spk.shape
    for b in range(begin, end):
        loss[b] = 0
        for c in range(classes):
            error = -(on if c == labels[b] else off)
            for t in range(steps):
                error += spk[t, b, c]
            loss[b] += error * error
            for t in range(steps):
                dspk[t, b, c] = error * factor


@kernel(lambda mem, *_: mem.shape[1], grain=256)
def mse_membrane(begin, end, mem, labels, on, off, factor, dmem, loss):
    """Eq. (2); arguments as in mse_count, on and off membrane levels."""
    steps, _, classes = mem.shape
    for b in range(begin, end):
        loss[b] = 0
        for t in range(steps):
            for c in range(classes):
                error = mem[t, b, c] - (on if c == labels[b] else off)
                loss[b] += error * error
                dmem[t, b, c] = error * factor


@kernel(lambda x, *_: x.shape[1], grain=256)
def largest_sum(begin, end, x, winner):
    """winner[b] = argmax_c sum_t x[t, b, c], the lowest index on ties; x (T, B, C) float, winner (B,) int64."""
    steps, _, classes = x.shape
    for b in range(begin, end):
        best = x[0, b, 0]
        for c in range(classes):
            total = x[0, b, c]
            for t in range(1, steps):
                total += x[t, b, c]
            if c == 0 or total > best:
                best = total
                winner[b] = c


__all__ = ["largest_sum", "mse_count", "mse_membrane"]
