"""A step of leaky integrate-and-fire neurons of a sample, in vectors; eqs. (1) to (12) are in rules.py and lif.py.

What has a number for each neuron may be given as one number that is the same for all.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from . import lanewise  # noqa: F401  lets rules take vectors
from ._compile import copied, part, rules
from .bits import ENOUGH, FAR, NEAR, ZERO, add8, add_next4, bring_near, load4, store_part4, three_after
from .every import lane, with_lane
from .vector import above, add, filled, lanes, load_part, room_for, store_part

spike, surrogate = rules.spike, rules.surrogate
lif_potential, lif_settle, lif_through_leak = rules.lif_potential, rules.lif_settle, rules.lif_through_leak
lif_adjoint, lif_dthreshold = rules.lif_adjoint, rules.lif_dthreshold


@part
def step_vector(u, i, beta, theta, reset, m, c, count):
    """Eqs. (1) to (3) for `count` neurons from c on, whose current is i: m, and the bits of their spikes."""
    now = lif_potential(load_part(u, c, count), i, beta, theta, reset)
    store_part(m, c, now, count)
    return above(now, theta)


@part
def step_lanes(u, before, current, weight, beta, threshold, reset, m, c, count):
    """Eqs. (1) to (3), and (9) where a neuron feeds back to itself, for `count` neurons from c on: m, and its bits."""
    theta, i = load_part(threshold, c, count), load_part(current, c, count)
    if weight is not None:
        i += load_part(weight, c, count) * spike(load_part(before, c, count) - theta)
    return step_vector(u, i, load_part(beta, c, count), theta, reset, m, c, count)


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
def run_narrow(current, weight, bias, beta, threshold, reset, m, spk, begin, end):
    """Eqs. (1) to (3) and (9) from the second step on, for samples [begin, end), in registers; whether it was done.

    That is where the feedback is a matrix and a vector holds all neurons. Four samples go together, see add_next4, and
    through all steps before the next four: no cache line near those of another thread's samples is written often.
    current, m and spk are as in lif_forward; beta and threshold are numbers.
    """
    if weight is None:
        return False
    steps, _, n = m.shape
    moving, width = current.shape[0] > 1, lanes(m[0, 0])
    if weight.ndim != 2 or n > width:
        return False
    near = room_for(m[0, 0], NEAR)
    own, decay, theta = load_part(bias, 0, n), load_part(beta, 0, n), load_part(threshold, 0, n)
    bring_near(weight, 0, 1, n, 0, near)
    for r in range(begin, end, 4):
        r1, r2, r3 = three_after(r, end)
        w0, w1, w2, w3 = spk[1, r, 0], spk[1, r1, 0], spk[1, r2, 0], spk[1, r3, 0]
        u0, u1 = load_part(m[0, r], 0, n), load_part(m[0, r1], 0, n)
        u2, u3 = load_part(m[0, r2], 0, n), load_part(m[0, r3], 0, n)
        for t in range(1, steps):
            i, out, bits = current[t * moving], m[t], spk[t + 1]
            i0, i1 = add(load_part(i[r], 0, n), own), add(load_part(i[r1], 0, n), own)
            i2, i3 = add(load_part(i[r2], 0, n), own), add(load_part(i[r3], 0, n), own)
            i0, i1, i2, i3 = add_next4(None, w0, w1, w2, w3, 0, 0, 0, 0, 0, near, width, i0, i1, i2, i3)
            u0, u1 = lif_potential(u0, i0, decay, theta, reset), lif_potential(u1, i1, decay, theta, reset)
            u2, u3 = lif_potential(u2, i2, decay, theta, reset), lif_potential(u3, i3, decay, theta, reset)
            store_part4(out, r, r1, r2, r3, u0, u1, u2, u3, n)
            w0, w1, w2, w3 = above(u0, theta), above(u1, theta), above(u2, theta), above(u3, theta)
            bits[r, 0], bits[r1, 0], bits[r2, 0], bits[r3, 0] = w0, w1, w2, w3
    return True


@part
def step_wide(current, fed, weight, bias, u, beta, threshold, reset, m, bits):
    """Eqs. (1) to (3) and (9) of a step of some samples, whose currents stay in registers; whether it was done.

    That is where the feedback is a small matrix and neurons fill eight vectors, whose bits are a word or, of float32,
    two. fed (B, ceil(N/64)) are the bits of the spikes before the step; beta and threshold are numbers.
    """
    if weight is None:
        return False
    rows, n = m.shape
    width, words = lanes(m[0]), range(fed.shape[1])
    if weight.ndim != 2 or n % (8 * width) != 0 or (rows >= ENOUGH and weight.size >= FAR):
        return False
    decay, theta = filled(m[0], beta), filled(m[0], threshold)
    for r in range(rows):
        for c in range(0, n, 8 * width):
            half = c + 4 * width
            i0, i1, i2, i3 = load_sums4(current[r], bias, c)
            i4, i5, i6, i7 = load_sums4(current[r], bias, half)
            i0, i1, i2, i3, i4, i5, i6, i7 = add8(fed[r], None, weight, words, c, width, i0, i1, i2, i3, i4, i5, i6, i7)
            low = step4(u[r], i0, i1, i2, i3, decay, theta, reset, m[r], c)
            high = step4(u[r], i4, i5, i6, i7, decay, theta, reset, m[r], half)
            if half % 64 == 0:
                bits[r, c // 64], bits[r, half // 64] = low, high
            else:
                bits[r, c // 64] = low | high << np.uint64(32)
    return True


@part
def load_sums4(x, y, c):
    """x + y for four vectors from column c on."""
    width = lanes(x)
    x0, x1, x2, x3 = load4(x, c, width)
    y0, y1, y2, y3 = load4(y, c, width)
    return add(x0, y0), add(x1, y1), add(x2, y2), add(x3, y3)


@part
def step4(u, i0, i1, i2, i3, beta, theta, reset, m, c):
    """step_vector for four vectors of neurons from c on."""
    width = lanes(m)
    s0 = step_vector(u, i0, beta, theta, reset, m, c, width)
    s1 = step_vector(u, i1, beta, theta, reset, m, c + width, width)
    s2 = step_vector(u, i2, beta, theta, reset, m, c + 2 * width, width)
    s3 = step_vector(u, i3, beta, theta, reset, m, c + 3 * width, width)
    return (s0 | s1 << np.uint64(width)) | (s2 | s3 << np.uint64(width)) << np.uint64(2 * width)


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
