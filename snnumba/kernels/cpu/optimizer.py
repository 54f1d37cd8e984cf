"""Optimizers and gradient clipping over one flat vector; the rules and their equations are in rules.py."""

import numpy as np

from ._compile import kernel, part, rules

adam_rule, sgd_rule, clamp_rule = rules.adam, rules.sgd, rules.clamp

GRAIN = 1 << 17  # fewer numbers are done before a thread wakes


@kernel(lambda parameters, *_: parameters.shape[0], grain=GRAIN)
def adam(begin, end, parameters, gradients, m, v, step, beta2, rest1, rest2, eps, keep, decay):
    """One step of Adam or AdamW in place, eqs. (a) and (b).

    parameters, gradients, m, v (P,) float; the others are floats of the same type.
    """
    p, g, m, v = parameters[begin:end], gradients[begin:end], m[begin:end], v[begin:end]  # from 0, to vectorise
    for i in range(p.shape[0]):
        p[i], m[i], v[i] = adam_rule(p[i], m[i], v[i], g[i], step, beta2, rest1, rest2, eps, keep, decay)


@kernel(lambda parameters, *_: parameters.shape[0], grain=GRAIN)
def sgd(begin, end, parameters, gradients, buffer, lr, momentum, decay, nesterov):
    """One step of SGD in place, eq. (c).

    parameters, gradients, buffer (P,) float; lr, momentum, decay floats of the same type; nesterov bool.
    """
    p, g, b = parameters[begin:end], gradients[begin:end], buffer[begin:end]
    for i in range(p.shape[0]):
        p[i], b[i] = sgd_rule(p[i], b[i], g[i], lr, momentum, decay, nesterov)


@kernel(lambda x, *_: x.shape[0], grain=GRAIN)
def scale(begin, end, x, factor):
    """x *= factor; x (P,) float, factor a float of the same type."""
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


__all__ = ["adam", "clip", "scale", "sgd", "sum_of_squares"]
