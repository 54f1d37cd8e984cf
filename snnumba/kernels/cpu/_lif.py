"""A step of leaky integrate-and-fire neurons of a sample, in vectors; eqs. (1) to (12) are in rules.py and lif.py.

What has a number for each neuron may be given as one number that is the same for all.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from . import lanewise  # noqa: F401  lets rules take vectors
from ._compile import copied, part, rules
from .bits import ZERO
from .every import lane, with_lane
from .vector import above, lanes, load_part, store_part

spike, surrogate = rules.spike, rules.surrogate
lif_potential, lif_settle, lif_through_leak = rules.lif_potential, rules.lif_settle, rules.lif_through_leak
lif_adjoint, lif_dthreshold = rules.lif_adjoint, rules.lif_dthreshold


@part
def step_lanes(u, before, current, weight, beta, threshold, reset, m, c, count):
    """Eqs. (1) to (3), and (9) where a neuron feeds back to itself, for `count` neurons from c on: m, and its bits."""
    theta, i = load_part(threshold, c, count), load_part(current, c, count)
    if weight is not None:
        i += load_part(weight, c, count) * spike(load_part(before, c, count) - theta)
    v = lif_potential(load_part(u, c, count), i, load_part(beta, c, count), theta, reset)
    store_part(m, c, v, count)
    return above(v, theta)


@part
def step_row(u, before, current, weight, beta, threshold, reset, m, bits):
    """step_lanes for a row: m and the bits of its spikes; u is the membrane, before the potential, before the step.

    weight, beta and threshold may be numbers, and bits None where they are not wanted.
    """
    n, width = m.shape[0], lanes(m)
    whole = n // 64
    for w in range(whole):
        word = ZERO
        for c in range(0, 64, width):
            now = step_lanes(u, before, current, weight, beta, threshold, reset, m, 64 * w + c, width)
            word |= now << np.uint64(c)
        if bits is not None:
            bits[w] = word
    if n % 64:
        word = ZERO
        for c in range(64 * whole, n, width):
            now = step_lanes(u, before, current, weight, beta, threshold, reset, m, c, n - c)
            word |= now << np.uint64(c % 64)
        if bits is not None:
            bits[whole] = word


@part
def find_winner(m, threshold, winner):
    """1 at the largest m - theta of a sample, the first of equals, and 0 elsewhere."""
    winner[:] = 0
    best = 0
    for n in range(1, m.shape[0]):
        if m[n] - threshold[n] > m[best] - threshold[best]:
            best = n
    winner[best] = 1


@part
def settle_row(u, m, threshold, winner, block, reset, mem):
    """Eq. (4) without reset_delay for a sample."""
    n, width = m.shape[0], lanes(m)
    for c in range(0, n, width):
        x, theta = load_part(m, c, n - c), load_part(threshold, c, n - c)
        s, r = spike(x - theta), spike(load_part(u, c, n - c) - theta)
        if winner is not None:
            s *= load_part(winner[block], c, n - c)
        store_part(mem, c, lif_settle(x, s, r, theta, reset), n - c)


@part
def surrogate_row(m, threshold, winner, block, kind, a, b, h):
    """h(m - theta) for a sample."""
    n, width = m.shape[0], lanes(m)
    for c in range(0, n, width):
        now = surrogate(load_part(m, c, n - c) - load_part(threshold, c, n - c), kind, a, b)
        if winner is not None:
            now *= load_part(winner[block], c, n - c)
        store_part(h, c, now, n - c)


@part
def adjoint_lanes(
    dspk, carry_spk, next_d, m, u, mem, dmem, weight, beta, threshold, winner, block, kind, a, b, reset, delay, d,
    dbeta, dthreshold, c, count,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11) for `count` neurons from c on; see adjoint_row."""
    theta, after, x = load_part(threshold, c, count), load_part(next_d, c, count), load_part(m, c, count)
    h, s = surrogate(x - theta, kind, a, b), spike(x - theta)
    if winner is not None:
        h, s = h * load_part(winner[block], c, count), s * load_part(winner[block], c, count)
    a_s = load_part(dspk, c, count)
    if carry_spk is not None:
        a_s += load_part(carry_spk, c, count)
    if weight is not None:
        a_s += load_part(weight, c, count) * after
    through = lif_through_leak(after, load_part(mem, c, count), theta, reset)
    a_u = load_part(dmem, c, count) + load_part(beta, c, count) * through
    before = load_part(u, c, count)
    now = lif_adjoint(a_s, a_u, x, s, before, theta, h, reset, delay)
    store_part(d, c, now, count)
    if dbeta is not None:
        change = lif_through_leak(now, before, theta, reset) * before
        store_part(dbeta, c, load_part(dbeta, c, count) + change, count)
        change = lif_dthreshold(a_s, a_u, x, s, before, theta, h, now, reset, delay)
        store_part(dthreshold, c, load_part(dthreshold, c, count) + change, count)


@part
def adjoint_row(
    dspk, carry_spk, next_d, m, u, mem, dmem, weight, beta, threshold, winner, block, kind, a, b, reset, delay, d,
    dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11) for a sample; next_d is d[t+1], u the membrane before the step, mem after.

    (10) adds carry_spk, if not None, and weight next_d, if weight is not. dbeta and dthreshold, if not None, are added
    to. dmem, weight, beta and threshold may be numbers.
    """
    n, width = d.shape[0], lanes(d)
    whole = n - n % width
    for c in range(0, whole, width):
        adjoint_lanes(
            dspk, carry_spk, next_d, m, u, mem, dmem, weight, beta, threshold, winner, block, kind, a, b, reset, delay,
            d, dbeta, dthreshold, c, width,
        )  # fmt: skip
    if whole < n:
        adjoint_lanes(
            dspk, carry_spk, next_d, m, u, mem, dmem, weight, beta, threshold, winner, block, kind, a, b, reset, delay,
            d, dbeta, dthreshold, whole, n - whole,
        )  # fmt: skip


def own_of(weight):
    """The weight of a feedback of each neuron to itself; None if there is another one or none."""
    return weight if weight is not None and weight.ndim == 1 else None


def carry_of(weight, carry):
    """What a feedback from neurons to others brought back; None if there is no such one."""
    return carry if weight is not None and weight.ndim > 1 else None


@overload(own_of)
def _own_of(weight):
    return (lambda weight: weight) if getattr(weight, "ndim", 0) == 1 else (lambda weight: None)


@overload(carry_of)
def _carry_of(weight, carry):
    return (lambda weight, carry: carry) if getattr(weight, "ndim", 0) > 1 else (lambda weight, carry: None)


def first_of(row):
    """The first number of a row; None of None."""
    return None if row is None else row[0]


@overload(first_of)
def _first_of(row):
    return (lambda row: row[0]) if isinstance(row, types.Array) else (lambda row: None)


@part
def same(row):
    """Whether a row is None or holds one number everywhere: one that need not be loaded."""
    if row is not None:
        for k in range(1, row.shape[0]):
            if row[k] != row[0]:
                return False
    return True


def with_surrogate(kernel, names, function, *parts):
    """A kernel of a file with these names, with a scalar function x -> h(x) in place of rules.surrogate.

    parts are those on the way to it, the innermost first.
    """
    compiled = numba.njit(function, error_model="numpy")

    def surrogate(x, kind, a, b):
        h = x
        for k in range(lanes(x)):
            h = with_lane(h, k, compiled(lane(x, k)))
        return h

    changed = {"surrogate": part(surrogate, keep=False)}
    for inner in parts:
        plain = getattr(inner, "py_func", inner)
        changed[plain.__name__] = part(copied(plain, plain.__globals__ | changed), keep=False)
    return kernel.with_names(names | changed)
