"""Optimizers over one flat vector of parameters; the rules are in rules.py."""

from ._compile import kernel, rules

adam_rule = rules.adam


@kernel(lambda parameters, *_: parameters.shape[0], grain=4096)
def adam(begin, end, parameters, gradients, m, v, step, beta2, rest1, rest2, eps, decay):
    """One Adam step in place: parameters, gradients, m, v (P,) float; the others are floats of the same type."""
    for i in range(begin, end):
        parameters[i], m[i], v[i] = adam_rule(
            parameters[i], m[i], v[i], gradients[i], step, beta2, rest1, rest2, eps, decay
        )


__all__ = ["adam"]
