"""Optimizers and gradient clipping over one flat vector; the rules and their equations are in rules.py."""

import numpy as np

from ._driver import THREADS, blocks, cuda, elementwise, kernel, rules, scratch
from ._sums import total_of

adam_rule, sgd_rule, clamp_rule = rules.adam, rules.sgd, rules.clamp

MOST_PARTS = 256  # of a sum: their sums are added by one thread
SUMS = (THREADS,)


@elementwise(lambda parameters, *_: parameters.shape[0])
def adam(parameters, gradients, m, v, step, beta2, rest1, rest2, eps, keep, decay):
    """One step of Adam or AdamW in place, eqs. (a) and (b).

    parameters, gradients, m, v (P,) float; the others are floats of the same type.
    """
    i = cuda.grid(1)
    if i < parameters.shape[0]:
        p, g = parameters[i], gradients[i]
        parameters[i], m[i], v[i] = adam_rule(p, m[i], v[i], g, step, beta2, rest1, rest2, eps, keep, decay)


@elementwise(lambda parameters, *_: parameters.shape[0])
def sgd(parameters, gradients, buffer, lr, momentum, decay, nesterov):
    """One step of SGD in place, eq. (c).

    parameters, gradients, buffer (P,) float; lr, momentum, decay floats of the same type; nesterov bool.
    """
    i = cuda.grid(1)
    if i < parameters.shape[0]:
        p, g = parameters[i], gradients[i]
        parameters[i], buffer[i] = sgd_rule(p, buffer[i], g, lr, momentum, decay, nesterov)


@elementwise(lambda x, factor: x.shape[0])
def scale(x, factor):
    """x *= factor; x (P,) float, factor a float of the same type."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        x[i] *= factor


@elementwise(lambda x, limit: x.shape[0])
def clip(x, limit):
    """x into [-limit, limit], eq. (d); x (P,) float, limit a float of the same type."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        x[i] = clamp_rule(x[i], limit)


@kernel
def add_squares(x, sums):
    """sums[k] = the sum of squares of the elements that block k comes to, in float64."""
    shared = cuda.shared.array(SUMS, np.float64)
    total = np.float64(0)
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        total += np.float64(x[i]) * np.float64(x[i])
    total = total_of(total, shared)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


def sum_of_squares(x):
    """The sum of squares of x (P,) float in float64, brought back to the host."""
    parts = min(blocks(x.shape[0], THREADS), MOST_PARTS)
    sums = scratch("squares", (parts,), np.float64)
    add_squares.launch(parts, THREADS, x, sums)
    return sum(np.asarray(sums).tolist())


__all__ = ["adam", "clip", "scale", "sgd", "sum_of_squares"]
