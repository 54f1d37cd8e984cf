"""Optimizers over one flat vector of parameters; the rules are in rules.py."""

from ._compile import kernel, rules

adam_rule = rules.adam


@kernel(lambda parameters, *_: parameters.shape[0], grain=1 << 17)  # fewer are done before a thread wakes
def adam(begin, end, parameters, gradients, m, v, step, beta2, rest1, rest2, eps, decay):
    """One Adam step in place: parameters, gradients, m, v (P,) float; the others are floats of the same type."""
    p, g, m, v = parameters[begin:end], gradients[begin:end], m[begin:end], v[begin:end]  # from 0, to vectorise
    for i in range(p.shape[0]):
        p[i], m[i], v[i] = adam_rule(p[i], m[i], v[i], g[i], step, beta2, rest1, rest2, eps, decay)


__all__ = ["adam"]
