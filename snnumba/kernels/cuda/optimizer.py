"""Optimizers and gradient clipping over one flat vector; the rules and their equations are in rules.py.

Where the arrays of the vector begin, `bounds` (K + 1,) int64, matters on the CPU alone.
"""

import math

import numpy as np

from ._driver import THREADS, blocks, cuda, elementwise, kernel, rules, scratch
from ._sums import total_of
from .workspace import fill

adam_rule, sgd_rule, clamp_rule, norm_factor = rules.adam, rules.sgd, rules.clamp, rules.norm_factor

MOST_PARTS = 256  # of a sum: each thread that needs it adds them
SUMS = (THREADS,)


@elementwise(lambda parameters, *_: parameters.shape[0])
def adam(parameters, gradients, m, v, factors, bounds):
    """One step of Adam or AdamW in place, eqs. (a) and (b).

    parameters, gradients, m, v (P,) float; factors (7,) float: step, beta2, rest1, rest2, eps, keep, decay.
    """
    i = cuda.grid(1)
    if i < parameters.shape[0]:
        step, beta2, rest1, rest2 = factors[0], factors[1], factors[2], factors[3]
        eps, keep, decay = factors[4], factors[5], factors[6]
        p, g = parameters[i], gradients[i]
        parameters[i], m[i], v[i] = adam_rule(p, m[i], v[i], g, step, beta2, rest1, rest2, eps, keep, decay)


@elementwise(lambda parameters, *_: parameters.shape[0])
def sgd(parameters, gradients, buffer, factors, bounds, nesterov):
    """One step of SGD in place, eq. (c).

    parameters, gradients, buffer (P,) float; factors (3,) float: lr, momentum, decay; nesterov bool.
    """
    i = cuda.grid(1)
    if i < parameters.shape[0]:
        lr, momentum, decay = factors[0], factors[1], factors[2]
        p, g = parameters[i], gradients[i]
        parameters[i], buffer[i] = sgd_rule(p, buffer[i], g, lr, momentum, decay, nesterov)


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


@elementwise(lambda x, *_: x.shape[0])
def scale_to_norm(x, sums, limit, norm):
    """Eq. (e), from the parts of the sum of squares."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        total = np.float64(0)
        for k in range(sums.shape[0]):
            total += sums[k]
        length = math.sqrt(total)
        if i == 0:
            norm[0] = length
        factor = norm_factor(length, limit)
        if factor != 1:  # NaN is not, either
            x[i] *= x.dtype.type(factor)


def clip_norm(x, limit, norm):
    """Eq. (e) in place: x (P,) float; norm (1,) float64, written in full: |x| as it was."""
    parts = min(blocks(x.shape[0], THREADS), MOST_PARTS)
    sums = scratch("squares", (parts,), np.float64)
    add_squares.launch(parts, THREADS, x, sums)
    scale_to_norm(x, sums, np.float64(limit), norm)


@elementwise(lambda x, place: x.shape[0])
def find_not_finite(x, place):
    """last_not_finite, where place is 0 before."""
    i = cuda.grid(1)
    if i < x.shape[0] and not math.isfinite(x[i]):
        cuda.atomic.max(place, 0, np.int64(i + 1))


def last_not_finite(x, bounds, place):
    """place (1,) int64 = 1 + the index of the last of x (P,) float that is NaN or infinite; 0 where there is none."""
    fill(place, 0)
    find_not_finite(x, place)


__all__ = ["adam", "clip", "clip_norm", "last_not_finite", "sgd"]
