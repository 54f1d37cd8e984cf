"""What a thread does for a neuron at a step; eqs. (1) to (12) are in rules.py and cpu/lif.py."""

from types import SimpleNamespace

from ._driver import part, rules
from ._together import number
from .bits import lowest, without_lowest

spike, lif_potential, lif_settle, nearest = rules.spike, rules.lif_potential, rules.lif_settle, rules.nearest
lif_through_leak, lif_adjoint, lif_dthreshold = rules.lif_through_leak, rules.lif_adjoint, rules.lif_dthreshold


@part
def halves_for(n):
    """How many halves of a word hold one bit for each of n neurons, and fill whole words."""
    return 2 * ((n + 63) // 64)


@part
def potential_of(u, i, beta, threshold, levels, reset):
    """Eqs. (1) and (2): m."""
    m = lif_potential(u, i, beta, threshold, reset)
    return m if levels is None else nearest(m, levels)


@part
def settled(u, m, s, threshold, reset, delay):
    """Eq. (4): u'."""
    return m if delay else lif_settle(m, s, spike(u - threshold), threshold, reset)


@part
def chosen_row(x, table, columns, k, n):
    """x[k] table[k, n]; x None: all 1."""
    value = number(table, k * columns + n)
    return value if x is None else value * x[k]


@part
def add_chosen_rows(halves, first, count, x, table, columns, n, i):
    """i + sum_k x[k] table[k, n] over the bits k set in `count` halves from `first` on; x None: all 1."""
    for w in range(count):
        half = halves[first + w]
        while half != 0:
            row = chosen_row(x, table, columns, 32 * w + lowest(half), n)
            half = without_lowest(half)
            if half != 0:  # a second one, read while the first is on its way
                row += chosen_row(x, table, columns, 32 * w + lowest(half), n)
                half = without_lowest(half)
            i += row
    return i


@part
def add_row(x, table, columns, n, i):
    """i + sum_k x[k] table[k, n]; the table lies in a row. Four sums, so that none has to wait for the one before."""
    a, b, c = type(i)(0), type(i)(0), type(i)(0)
    whole = x.shape[0] // 4 * 4
    for k in range(0, whole, 4):
        at = k * columns + n
        i += number(x, k) * number(table, at)
        a += number(x, k + 1) * number(table, at + columns)
        b += number(x, k + 2) * number(table, at + 2 * columns)
        c += number(x, k + 3) * number(table, at + 3 * columns)
    for k in range(whole, x.shape[0]):
        a += number(x, k) * number(table, k * columns + n)
    return (i + a) + (b + c)


@part
def is_largest(values, first, count, place):
    """Whether of `count` values from `first` on the one at `place` is the largest, the first of equals."""
    mine = values[first + place]
    for k in range(count):
        other = values[first + k]
        if other > mine or (other == mine and k < place):
            return False
    return True


@part
def adjoint(a_s, dmem, next_d, m, u, after, beta, threshold, won, h, reset, delay):
    """Eqs. (5) to (8) and (11): d, dL/dbeta, dL/dtheta; a_s from (10), next_d is d[t+1], u -> after the membranes."""
    a_u = dmem + beta * lif_through_leak(next_d, after, threshold, reset)
    s = spike(m - threshold) * won
    d = lif_adjoint(a_s, a_u, m, s, u, threshold, h, reset, delay)
    dthreshold = lif_dthreshold(a_s, a_u, m, s, u, threshold, h, d, reset, delay)
    return d, lif_through_leak(d, u, threshold, reset) * u, dthreshold


def with_surrogate(kernels, function):
    """Kernels by name, with a scalar function x -> h(x) in place of rules.surrogate."""
    compiled = part(function)

    def surrogate(x, kind, a, b):
        return type(x)(compiled(x))

    names = {"surrogate": part(surrogate)}
    return SimpleNamespace(**{name: kernel.with_names(names) for name, kernel in kernels.items()})
