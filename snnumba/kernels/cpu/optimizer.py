"""Optimizers and gradient clipping over one flat vector; the rules and their equations are in rules.py.

A thread changes its share of each array in the vector, and not of the vector: what it has made the gradients of, as far
as it can. `bounds` (K + 1,) int64 are where the K arrays begin, and at last where the vector ends.
"""

import math

import numpy as np

from ._compile import kernel, part, rules
from ._program import raise_to
from ._threads import recordable
from .vector import claim, lanes

adam_rule, sgd_rule, clamp_rule, norm_factor = rules.adam, rules.sgd, rules.clamp, rules.norm_factor

GRAIN = 1 << 12  # numbers, at least, that are worth a second thread
SHARES = 840  # of each array: two to eight threads get as many
VECTOR = 16  # numbers: shares begin at whole ones
AHEAD = 512  # numbers: while so many parameters change, the next are fetched from threads that have read them,
CACHED = 1 << 20  # if there are no more than caches hold: from memory they come by themselves


@part
def claim_next(parameters, first, end):
    """AHEAD numbers from `first` on, as a slice that ends at `end`; those after it are fetched."""
    if parameters.shape[0] <= CACHED:
        for k in range(first + AHEAD, min(first + 2 * AHEAD, end), lanes(parameters)):
            claim(parameters, k)
    return slice(first, min(first + AHEAD, end))


def num_shares(x):
    """Into how many shares the arrays of a vector x are cut."""
    return SHARES if x.shape[0] >= 2 * GRAIN else 1


shares_in = part(num_shares)


@part
def shares_of(x, bounds, k, begin, end):
    """Where shares [begin, end) of array k lie in a vector x."""
    first, vectors, shares = bounds[k], (bounds[k + 1] - bounds[k]) // VECTOR, shares_in(x)
    last = bounds[k + 1] if end == shares else first + vectors * end // shares * VECTOR
    return first + vectors * begin // shares * VECTOR, last


@kernel(lambda parameters, *_: num_shares(parameters))
def adam(begin, end, parameters, gradients, m, v, factors, bounds):
    """One step of Adam or AdamW in place, eqs. (a) and (b).

    parameters, gradients, m, v (P,) float; factors (7,) float: step, beta2, rest1, rest2, eps, keep, decay.
    """
    step, beta2, rest1, rest2 = factors[0], factors[1], factors[2], factors[3]
    eps, keep, decay = factors[4], factors[5], factors[6]
    for k in range(bounds.shape[0] - 1):
        low, high = shares_of(parameters, bounds, k, begin, end)
        for first in range(low, high, AHEAD):
            here = claim_next(parameters, first, high)
            p, g, ms, vs = parameters[here], gradients[here], m[here], v[here]  # from 0, to vectorise
            for i in range(p.shape[0]):
                p[i], ms[i], vs[i] = adam_rule(p[i], ms[i], vs[i], g[i], step, beta2, rest1, rest2, eps, keep, decay)


@kernel(lambda parameters, *_: num_shares(parameters))
def sgd(begin, end, parameters, gradients, buffer, factors, bounds, nesterov):
    """One step of SGD in place, eq. (c).

    parameters, gradients, buffer (P,) float; factors (3,) float: lr, momentum, decay; nesterov bool.
    """
    lr, momentum, decay = factors[0], factors[1], factors[2]
    for k in range(bounds.shape[0] - 1):
        low, high = shares_of(parameters, bounds, k, begin, end)
        for first in range(low, high, AHEAD):
            here = claim_next(parameters, first, high)
            p, g, b = parameters[here], gradients[here], buffer[here]
            for i in range(p.shape[0]):
                p[i], b[i] = sgd_rule(p[i], b[i], g[i], lr, momentum, decay, nesterov)


@kernel(lambda x, *_: x.shape[0], grain=GRAIN)
def scale(begin, end, x, factor):
    """x *= factor, a float of the type of x."""
    x = x[begin:end]
    for i in range(x.shape[0]):
        x[i] *= factor


@kernel(lambda x, *_: x.shape[0], grain=GRAIN)
def clip(begin, end, x, limit):
    """x into [-limit, limit], eq. (d); x (P,) float, limit a float of the same type."""
    x = x[begin:end]
    for i in range(x.shape[0]):
        x[i] = clamp_rule(x[i], limit)


@part
def square(x):
    """x^2 in float64."""
    return np.float64(x) * np.float64(x)


@part
def sum_of_squares(x):
    """The sum of squares of x (P,) float, P a multiple of 8, in float64.

    One thread and eight sums, added in an order of their own: the bits do not depend on the number of threads, of
    which a second would gain nothing here until there are millions of parameters.
    """
    a = b = c = d = e = f = g = h = 0.0
    rows = x.reshape(-1, 8)
    for i in range(rows.shape[0]):
        a += square(rows[i, 0])
        b += square(rows[i, 1])
        c += square(rows[i, 2])
        d += square(rows[i, 3])
        e += square(rows[i, 4])
        f += square(rows[i, 5])
        g += square(rows[i, 6])
        h += square(rows[i, 7])
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@recordable
def clip_norm(x, limit, norm):
    """Eq. (e) in place: x (P,) float, P a multiple of 8; norm (1,) float64, written in full: |x| as it was."""
    norm[0] = math.sqrt(sum_of_squares(x))
    factor = norm_factor(norm[0], limit)
    if factor != 1:  # NaN is not, either
        scale(x, x.dtype.type(factor))


@part
def any_not_finite(x):
    """Whether one of x (P,) float is NaN or infinite."""
    found = False
    for i in range(x.shape[0]):
        found |= not math.isfinite(x[i])
    return found


@kernel(lambda place: 1)
def clear(begin, end, place):
    """place (1,) = 0."""
    place[0] = 0


@kernel(lambda x, *_: num_shares(x))
def find_not_finite(begin, end, x, bounds, place):
    """last_not_finite, where place is 0 before."""
    for k in range(bounds.shape[0] - 1):
        low, last = shares_of(x, bounds, k, begin, end)
        if any_not_finite(x[low:last]):
            while math.isfinite(x[last - 1]):
                last -= 1
            raise_to(place.ctypes.data, 0, last)


def last_not_finite(x, bounds, place):
    """place (1,) int64 = 1 + the index of the last of x (P,) float that is NaN or infinite; 0 where there is none."""
    clear(place)
    find_not_finite(x, bounds, place)


__all__ = ["adam", "clip", "clip_norm", "last_not_finite", "sgd"]
