"""The float64 NumPy reference: every model, loss and optimizer, forward and hand-derived backward.

Slow, plain and independent of the package: it imports NumPy alone. The equations stand numbered at the top
of each part and the comments cite them. H(x) = 1 if x > 0 else 0. Time is the first axis: currents, spikes
and membranes are (T, B, ...) or, unbatched, (T, ...), where ... is (N,) or (C, H, W); states have no T.
`dname` is the gradient of the loss with respect to `name`; a backward returns a dict of gradients by name.

The reset R is a constant to the backward pass. So a forward takes `spike`, which finite differences set to a
primitive of the surrogate, and `reset`, which they set to the R of the unperturbed run: then backward is the
exact derivative of that smooth net.
"""

import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Gradients = dict[str, Array]
Elementwise = Callable[[Array], Array]


def relative_error(got: ArrayLike, expected: ArrayLike) -> float:
    """max|got - expected| / max|expected|; where expected is all zero, max|got|."""
    got, expected = float64(got), float64(expected)
    assert got.shape == expected.shape, f"got {got.shape}, expected {expected.shape}"
    scale = np.max(np.abs(expected), initial=0.0)
    return float(np.max(np.abs(got - expected), initial=0.0) / (scale or 1.0))


def float64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum x over the axes along which a parameter of this shape was broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


# Surrogate gradients ----------------------------------------------------------------------------------------
#
#   S = H(x), x = U - theta;  dS/dx is replaced by p'(x), and p is its primitive, S in the smooth net.


@dataclass(frozen=True)
class Surrogate:
    """p' as `gradient` and p as `primitive` (up to a constant; None where nobody needs it)."""

    gradient: Elementwise
    primitive: Elementwise | None = None

    def __call__(self, x: Array) -> Array:
        return self.gradient(x)


def heaviside(x: Array) -> Array:
    """H(x): strict, a membrane exactly at threshold does not spike."""
    return float64(x > 0)


def atan(alpha: float = 2.0) -> Surrogate:
    a = np.pi * alpha / 2
    return Surrogate(lambda x: alpha / 2 / (1 + (a * x) ** 2), lambda x: np.arctan(a * x) / np.pi + 0.5)


def fast_sigmoid(slope: float = 25) -> Surrogate:
    return Surrogate(lambda x: 1 / (slope * abs(x) + 1) ** 2, lambda x: x / (slope * abs(x) + 1))


def sigmoid(slope: float = 25) -> Surrogate:
    def gradient(x: Array) -> Array:
        e = np.exp(-abs(slope * x))  # abs: never overflows
        return slope * e / (1 + e) ** 2

    return Surrogate(gradient, lambda x: (1 + np.tanh(slope * x / 2)) / 2)


def straight_through_estimator() -> Surrogate:
    return Surrogate(np.ones_like, lambda x: x)


def triangular(threshold: float = 1) -> Surrogate:
    return Surrogate(lambda x: np.where(x < 0, threshold, -threshold), lambda x: -threshold * abs(x))


def spike_rate_escape(beta: float = 1, slope: float = 25) -> Surrogate:
    return Surrogate(
        lambda x: slope * np.exp(-beta * abs(x - 1)),
        lambda x: slope / beta * np.sign(x - 1) * (1 - np.exp(-beta * abs(x - 1))),
    )


def SFS(slope: float = 25, B: float = 1) -> Surrogate:
    full = fast_sigmoid(slope)
    return Surrogate(
        lambda x: (x > B) * full.gradient(x),
        lambda x: (x > B) * (full.primitive(x) - full.primitive(float64(B))),
    )


def LSO(slope: float = 0.1) -> Surrogate:
    return Surrogate(lambda x: np.where(x > 0, 1.0, slope), lambda x: np.where(x > 0, x, slope * x))


def custom_surrogate(gradient: Elementwise, primitive: Elementwise | None = None) -> Surrogate:
    return Surrogate(gradient, primitive)


def surrogate_disable() -> Surrogate:
    """Plain H: no gradient passes a spike."""
    return Surrogate(np.zeros_like, np.zeros_like)


# Linear and convolutional connections, pooling --------------------------------------------------------------
#
#   (1)  y = x W^T + b                     dx = dy W                       dW = sum dy^T x        db = sum dy
#   (2)  y[o, u, v] = sum W[o, c, i, j] X[c, u s + i, v s + j] + b[o]      X is x with zeros around: a cross-correlation
#        dX[c, u s + i, v s + j] += W[o, c, i, j] dy[o, u, v]              dW = sum dy X          db = sum dy
#   (2a) y[c, u, v] = mean of X[c, u s + i, v s + j] over i, j             dX += dy / (kh kw)
#   (2b) y[c, u, v] = max of them, with -infinity around x                 dX += dy at the first that is y, row by row
#   (3)  x constant in time, the same y at every t: one product, and dy is summed over t first


def linear_forward(x: Array, weight: Array, bias: Array) -> Array:
    """Eq. (1): x (..., n), weight (m, n), bias (m,) -> (..., m)."""
    return x @ weight.T + bias


def linear_backward(dy: Array, x: Array, weight: Array) -> Gradients:
    """Eq. (1); by (3) an x without the time axis of dy was constant in time."""
    if x.ndim < dy.ndim:
        dy = dy.sum(axis=0)
    flat = dy.reshape(-1, dy.shape[-1])
    return {"x": dy @ weight, "weight": flat.T @ x.reshape(-1, x.shape[-1]), "bias": flat.sum(axis=0)}


Pair = tuple[int, int]


def windows(x: Array, kernel: Pair, stride: Pair) -> Iterator[tuple[int, int, Array]]:
    """For each offset (i, j) in the kernel: the view of x (..., H, W) that it has, from one window to the next."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[-2:], kernel, stride, strict=True))
    for i, j in np.ndindex(*kernel):
        yield i, j, x[..., i :: stride[0], j :: stride[1]][..., :rows, :columns]


def pad(x: Array, padding: Pair, value: float = 0.0) -> Array:
    """x (..., H, W) with so many values above and below, left and right."""
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding], constant_values=value)


def unpad(x: Array, padding: Pair) -> Array:
    return x[..., padding[0] : x.shape[-2] - padding[0], padding[1] : x.shape[-1] - padding[1]]


def half(weight: Array) -> Pair:
    """The padding that lets an image keep its size, for an odd kernel."""
    return weight.shape[2] // 2, weight.shape[3] // 2


def conv2d_forward(x: Array, weight: Array, bias: Array, stride: Pair = (1, 1), padding: Pair | None = None) -> Array:
    """Eq. (2): x (..., C, H, W), weight (O, C, kh, kw), bias (O,); padding None: half of the kernel."""
    views = windows(pad(x, half(weight) if padding is None else padding), weight.shape[2:], stride)
    return sum(np.einsum("oc,...chw->...ohw", weight[:, :, i, j], view) for i, j, view in views) + bias[:, None, None]


def conv2d_backward(
    dy: Array, x: Array, weight: Array, stride: Pair = (1, 1), padding: Pair | None = None
) -> Gradients:
    """Eq. (2), adding to views of dX; by (3) an x without the time axis of dy was constant in time."""
    if x.ndim < dy.ndim:
        dy = dy.sum(axis=0)
    padding = half(weight) if padding is None else padding
    flat, padded = dy.reshape(-1, *dy.shape[-3:]), pad(x, padding)
    dpadded, dweight = np.zeros_like(padded), np.empty_like(weight)
    for i, j, dview in windows(dpadded, weight.shape[2:], stride):
        dview += np.einsum("oc,...ohw->...chw", weight[:, :, i, j], dy)
    for i, j, view in windows(padded.reshape(-1, *padded.shape[-3:]), weight.shape[2:], stride):
        dweight[:, :, i, j] = np.einsum("bohw,bchw->oc", flat, view)
    return {"x": unpad(dpadded, padding), "weight": dweight, "bias": flat.sum(axis=(0, 2, 3))}


def avg_pool_forward(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Eq. (2a)."""
    return sum(view for _, _, view in windows(pad(x, padding), kernel, stride)) / np.prod(kernel)


def avg_pool_backward(dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Eq. (2a): dx."""
    dpadded = np.zeros_like(pad(x, padding))
    for _, _, dview in windows(dpadded, kernel, stride):
        dview += dy / np.prod(kernel)
    return unpad(dpadded, padding)


def max_pool_forward(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Eq. (2b)."""
    return np.max([view for _, _, view in windows(pad(x, padding, -np.inf), kernel, stride)], axis=0)


def max_pool_backward(dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Eq. (2b): dx."""
    padded, y, left = pad(x, padding, -np.inf), max_pool_forward(x, kernel, stride, padding), dy.copy()
    dpadded = np.zeros_like(padded)
    seen = windows(padded, kernel, stride)
    for (_, _, view), (_, _, dview) in zip(seen, windows(dpadded, kernel, stride), strict=True):
        dview += np.where(view == y, left, 0)
        left[view == y] = 0  # those after it get nothing
    return unpad(dpadded, padding)


# RLeaky and Leaky -------------------------------------------------------------------------------------------
#
#   one step, from the state (U, S) of the step before; Leaky is RLeaky without rec and with a graded factor g
#   (4)  R = H(U - theta)                                      a constant in the backward pass
#   (5)  z = clip(beta, 0, 1) * ku * U + I + rec(S)            ku = 1 - R in Leaky's "zero", else 1
#   (6)  M = kz * z - [subtract] R * theta                     kz = 1 - R in RLeaky's "zero", else 1
#        state_quant: M becomes the nearest of its levels      the identity to the backward pass
#   (7)  s = H(M - theta);   S = g * s                         inhibition: s = 0 but for the largest M - theta
#   (8)  reset_delay: U = M;   else D = s - R and U = M - D * theta (subtract) | M - D * M (zero) | M (none)
#   (9)  rec(S) = S * V | (1) | (2)
#
#   backward, t = T-1 ... 0, with cU = cS = 0 at the end
#   (10) aU = gU[t] + cU;   aS = gS[t] + cS;   as = g * aS;   aM = aU;   ath = 0
#   (11) (8) undelayed:  subtract: as -= theta * aU, ath -= aU * D   |   zero: as -= M * aU, aM = aU * (1 - D)
#   (12) p = p'(M - theta) * as;   aM += p;   ath -= p         inhibition: p = 0 but for the largest
#   (13) subtract: ath -= aM * R;   az = kz * aM
#   (14) cU = clip(beta) * ku * az;   cS = az * V | (1) | (2);   after t = 0 these are dU0 and dS0
#   (15) dI = az;   dtheta = sum ath;   dbeta = [0 <= beta <= 1] sum az * ku * U[t-1];   dg = sum aS * s
#        dV = sum az * S[t-1];   dW, db by (1) | (2)


@dataclass
class Tape:
    """What the backward pass of RLeaky and Leaky reads: parameters, and (T, ...) arrays by their letters."""

    beta: Array
    threshold: Array
    V: Array | None
    weight: Array | None
    graded_spikes_factor: Array
    reset_mechanism: str
    reset_delay: bool
    U_before: Array
    S_before: Array
    R: Array
    M: Array
    s: Array
    winner: Array

    @property
    def feedback(self) -> bool:
        return self.V is not None or self.weight is not None

    def keep(self, R: Array) -> tuple[Array, Array]:
        """(ku, kz) of (5) and (6)."""
        one = np.ones_like(R)
        if self.reset_mechanism != "zero":
            return one, one
        return (one, 1 - R) if self.feedback else (1 - R, one)


def recurrent_forward(spk: Array, V: Array | None, weight: Array | None, bias: Array | None) -> Array:
    """Eq. (9); zero without feedback."""
    if V is not None:
        return spk * V
    if weight is None:
        return np.zeros_like(spk)
    return (linear_forward if weight.ndim == 2 else conv2d_forward)(spk, weight, bias)


def recurrent_backward(dcurrent: Array, spk: Array, V: Array | None, weight: Array | None) -> tuple[Array, Gradients]:
    """Eqs. (14), (15): dspk, and the gradients of V | weight, bias."""
    if V is not None:
        return dcurrent * V, {"V": sum_to(dcurrent * spk, V.shape)}
    if weight is None:
        return np.zeros_like(dcurrent), {}
    gradients = (linear_backward if weight.ndim == 2 else conv2d_backward)(dcurrent, spk, weight)
    return gradients.pop("x"), gradients


def winners(x: Array, batched: bool) -> Array:
    """1 at the largest x of each sample (the first of equals), 0 elsewhere."""
    rows = x.reshape(len(x) if batched else 1, -1)
    mask = np.zeros_like(rows)
    mask[np.arange(len(rows)), rows.argmax(axis=1)] = 1
    return mask.reshape(x.shape)


def nearest(x: Array, levels: Array) -> Array:
    """The nearest of ascending levels, the lower of two as near."""
    return levels[abs(x[..., None] - levels).argmin(axis=-1)]


def rleaky_forward(
    current: ArrayLike,
    beta: ArrayLike,
    threshold: ArrayLike = 1.0,
    V: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    graded_spikes_factor: ArrayLike = 1.0,
    reset_mechanism: str = "subtract",
    reset_delay: bool = True,
    inhibition: bool = False,
    levels: Array | None = None,
    spk0: ArrayLike | None = None,
    mem0: ArrayLike | None = None,
    spike: Elementwise = heaviside,
    reset: Array | None = None,
) -> tuple[Array, Array, Tape]:
    """Eqs. (4)-(9) over all steps.

    Parameters
    ----------
    current : (T, B, ...) or (T, ...)     ... is (N,) or (C, H, W), so an odd number of axes means a batch
    beta, threshold, V : any shape that broadcasts against ...
    weight, bias : (N, N), (N,) or (C, C, kh, kw), (C,)       V or these; neither makes it Leaky
    levels : ascending                    of state_quant
    spk0, mem0 : one step's shape         zeros where None
    spike, reset : H, and (T, ...) values of R in place of (4), for finite differences

    Returns spk, mem, each like current, and the tape for rleaky_backward.
    """
    current, beta, threshold, g = map(float64, (current, beta, threshold, graded_spikes_factor))
    V, weight, bias = (None if a is None else float64(a) for a in (V, weight, bias))
    U, S = (np.broadcast_to(float64(0 if a is None else a), current.shape[1:]) for a in (mem0, spk0))

    over_time = {name: np.ones_like(current) for name in ("U_before", "S_before", "R", "M", "s", "winner")}
    tape = Tape(beta, threshold, V, weight, g, reset_mechanism, reset_delay, **over_time)
    spk, mem = np.empty_like(current), np.empty_like(current)
    for t in range(len(current)):
        tape.U_before[t], tape.S_before[t] = U, S
        R = heaviside(U - threshold) if reset is None else reset[t]  # (4)
        ku, kz = tape.keep(R)
        z = np.clip(beta, 0, 1) * ku * U + current[t] + recurrent_forward(S, V, weight, bias)  # (5)
        M = kz * z - (R * threshold if reset_mechanism == "subtract" else 0)  # (6)
        if levels is not None:
            M = nearest(M, levels)
        if inhibition:
            tape.winner[t] = winners(M - threshold, batched=current.ndim % 2 == 1)
        s = spike(M - threshold) * tape.winner[t]  # (7)
        S, U = g * s, M
        if not reset_delay:  # (8)
            U = M - (s - R) * {"subtract": threshold, "zero": M, "none": 0}[reset_mechanism]
        tape.R[t], tape.M[t], tape.s[t], spk[t], mem[t] = R, M, s, S, U
    return spk, mem, tape


def rleaky_backward(
    tape: Tape, dspk: Array | None = None, dmem: Array | None = None, surrogate: Elementwise | None = None
) -> Gradients:
    """Eqs. (10)-(15): from dspk, dmem (T, ...; None is zero) to the gradients of current, mem0, beta and
    threshold, and of spk0 and V | weight, bias (RLeaky) or graded_spikes_factor (Leaky). The surrogate is
    atan() where None.
    """
    surrogate = surrogate or atan()
    beta, threshold, g = tape.beta, tape.threshold, tape.graded_spikes_factor
    az_all, ath_all, aS_all = (np.empty_like(tape.M) for _ in range(3))
    cU = cS = np.zeros_like(tape.M[0])
    for t in reversed(range(len(tape.M))):
        R, M, D = tape.R[t], tape.M[t], tape.s[t] - tape.R[t]
        ku, kz = tape.keep(R)
        aU = cU if dmem is None else dmem[t] + cU  # (10)
        aS = cS if dspk is None else dspk[t] + cS
        a_s, aM, ath = g * aS, aU, np.zeros_like(aU)
        if not tape.reset_delay and tape.reset_mechanism == "subtract":  # (11)
            a_s, ath = a_s - threshold * aU, -aU * D
        elif not tape.reset_delay and tape.reset_mechanism == "zero":
            a_s, aM = a_s - M * aU, aU * (1 - D)
        p = surrogate(M - threshold) * tape.winner[t] * a_s  # (12)
        aM, ath = aM + p, ath - p
        if tape.reset_mechanism == "subtract":  # (13)
            ath = ath - aM * R
        az = kz * aM
        cU = np.clip(beta, 0, 1) * ku * az  # (14)
        cS, _ = recurrent_backward(az, tape.S_before[t], tape.V, tape.weight)
        az_all[t], ath_all[t], aS_all[t] = az, ath, aS

    ku, _ = tape.keep(tape.R)
    gradients = {  # (15)
        "current": az_all,
        "mem0": cU,
        "beta": ((beta >= 0) & (beta <= 1)) * sum_to(az_all * ku * tape.U_before, beta.shape),
        "threshold": sum_to(ath_all, threshold.shape),
    }
    if not tape.feedback:
        return gradients | {"graded_spikes_factor": sum_to(aS_all * tape.s, g.shape)}
    _, recurrent = recurrent_backward(az_all, tape.S_before, tape.V, tape.weight)
    return gradients | {"spk0": cS} | recurrent


def leaky_forward(
    current: ArrayLike, beta: ArrayLike, threshold: ArrayLike = 1.0, **options: Any
) -> tuple[Array, Array, Tape]:
    """Leaky is rleaky_forward without feedback; its "zero" clears the old membrane alone, by ku in (5)."""
    return rleaky_forward(current, beta, threshold, **options)


leaky_backward = rleaky_backward


# SLSTM ------------------------------------------------------------------------------------------------------
#
#   one step, from the state (c, h) of the step before; * is elementwise
#   (16) R = H(h - theta)                                      a constant in the backward pass
#   (17) i, f, g, o = x Wih^T + bih + h Whh^T + bhh, through sig, sig, tanh, sig
#   (18) c' = f * c + i * g;   q = o * tanh(c')
#   (19) h' = q - R * theta (subtract) | q * (1 - R) (zero) | q (none);   S = H(h' - theta)
#
#   backward, t = T-1 ... 0, with ch = cc = 0 at the end
#   (20) p = p'(h' - theta) * gS[t];   ah = gh[t] + ch + p;   ath = -p
#   (21) subtract: ath -= ah * R;   zero: ah *= 1 - R;   then ah = dL/dq
#   (22) ac = gc[t] + cc + ah * o * (1 - tanh(c')^2)
#   (23) a = (ac * g * i(1 - i),  ac * c * f(1 - f),  ac * i * (1 - g^2),  ah * tanh(c') * o(1 - o))
#   (24) cc = ac * f;   ch = a Whh;   dx = a Wih;   dWih = sum a^T x;
#        dWhh = sum a^T h;   dbih = dbhh = sum a


@dataclass
class LSTMTape:
    """What the backward pass of SLSTM reads: parameters, and (T, ...) arrays by their letters."""

    weight_ih: Array
    weight_hh: Array
    bias: bool
    threshold: Array
    reset_mechanism: str
    x: Array
    gates: Array
    c_before: Array
    h_before: Array
    R: Array
    c: Array
    h: Array


def slstm_forward(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    threshold: ArrayLike = 1.0,
    *,
    reset_mechanism: str = "none",
    syn0: ArrayLike | None = None,
    mem0: ArrayLike | None = None,
    spike: Elementwise = heaviside,
    reset: Array | None = None,
) -> tuple[Array, Array, Array, LSTMTape]:
    """Eqs. (16)-(19) over all steps: x (T, B, n) or (T, n), weight_ih (4H, n), weight_hh (4H, H), biases
    (4H,) or None -> spk, syn, mem (T, B, H), tape. `spike` and `reset` as in rleaky_forward.
    """
    x, weight_ih, weight_hh, threshold = map(float64, (x, weight_ih, weight_hh, threshold))
    H = weight_hh.shape[1]
    bias = np.zeros(4 * H) if bias_ih is None else float64(bias_ih) + float64(bias_hh)
    shape = (*x.shape[:-1], H)
    c, h = (np.broadcast_to(float64(0 if a is None else a), shape[1:]) for a in (syn0, mem0))

    over_time = {name: np.empty(shape) for name in ("c_before", "h_before", "R", "c", "h")}
    gates = np.empty((*shape[:-1], 4 * H))
    tape = LSTMTape(weight_ih, weight_hh, bias_ih is not None, threshold, reset_mechanism, x, gates, **over_time)
    spk = np.empty(shape)
    for t in range(len(x)):
        tape.c_before[t], tape.h_before[t] = c, h
        R = heaviside(h - threshold) if reset is None else reset[t]  # (16)
        i, f, g, o = np.split(x[t] @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=-1)  # (17)
        i, f, g, o = logistic(i), logistic(f), np.tanh(g), logistic(o)
        c = f * c + i * g  # (18)
        q = o * np.tanh(c)
        h = {"subtract": q - R * threshold, "zero": q * (1 - R), "none": q}[reset_mechanism]  # (19)
        spk[t] = spike(h - threshold)
        tape.gates[t], tape.R[t], tape.c[t], tape.h[t] = np.concatenate((i, f, g, o), axis=-1), R, c, h
    return spk, tape.c, tape.h, tape


def logistic(x: Array) -> Array:
    return (1 + np.tanh(x / 2)) / 2


def slstm_backward(
    tape: LSTMTape,
    dspk: Array | None = None,
    dsyn: Array | None = None,
    dmem: Array | None = None,
    surrogate: Elementwise | None = None,
) -> Gradients:
    """Eqs. (20)-(24): from dspk, dsyn, dmem (T, ...; None is zero) to the gradients of x, syn0, mem0,
    threshold, weight_ih, weight_hh and, where there are biases, bias_ih, bias_hh. The surrogate is atan()
    where None.
    """
    surrogate = surrogate or atan()
    gS, gc, gh = (np.zeros_like(tape.h) if d is None else d for d in (dspk, dsyn, dmem))
    a_all, ath_all = np.empty((*tape.h.shape[:-1], len(tape.weight_ih))), np.empty_like(tape.h)
    ch = cc = np.zeros_like(tape.h[0])
    for t in reversed(range(len(tape.x))):
        (i, f, g, o), R, tanh_c = np.split(tape.gates[t], 4, axis=-1), tape.R[t], np.tanh(tape.c[t])
        p = surrogate(tape.h[t] - tape.threshold) * gS[t]  # (20)
        ah, ath = gh[t] + ch + p, -p
        if tape.reset_mechanism == "subtract":  # (21)
            ath = ath - ah * R
        elif tape.reset_mechanism == "zero":
            ah = ah * (1 - R)
        ac = gc[t] + cc + ah * o * (1 - tanh_c**2)  # (22)
        di, df, dg, do = ac * g, ac * tape.c_before[t], ac * i, ah * tanh_c  # (23)
        a = np.concatenate((di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)), axis=-1)
        cc, ch = ac * f, a @ tape.weight_hh  # (24)
        a_all[t], ath_all[t] = a, ath

    inputs = linear_backward(a_all, tape.x, tape.weight_ih)
    hidden = linear_backward(a_all, tape.h_before, tape.weight_hh)
    gradients = {"x": inputs["x"], "syn0": cc, "mem0": ch, "threshold": sum_to(ath_all, tape.threshold.shape)}
    gradients |= {"weight_ih": inputs["weight"], "weight_hh": hidden["weight"]}
    return gradients | ({"bias_ih": inputs["bias"], "bias_hh": hidden["bias"]} if tape.bias else {})


# Losses and metrics -----------------------------------------------------------------------------------------
#
#   spk, mem are (T, B, C), labels (B,); each loss returns its value and the gradient of its first argument
#   (25) target(on, off) = max(onehot * on, off) where on > off, else onehot * on + (1 - onehot) * off
#   (26) MSE(x, y) = mean (x - y)^2,  d/dx = 2 (x - y) / size
#   (27) CE(x, label) = mean_B (log sum_c exp x_c - x_label),  d/dx = (softmax(x) - onehot) / B
#   (28) counts = sum_t S; with population_code class k sums the k-th of K equal blocks of outputs
#   (29) first-spike time f: the first t with S = 1, T - 1 for a silent neuron; dS = -df at t = f, 0 elsewhere


def one_hot(labels: NDArray[np.integer], num_classes: int) -> Array:
    return float64(np.arange(num_classes) == np.asarray(labels)[:, None])


def class_targets(labels: NDArray[np.integer], num_classes: int, on: float, off: float) -> Array:
    """Eq. (25), (B, C). The maximum makes a negative `off` 0 when on > off."""
    hot = one_hot(labels, num_classes)
    return np.maximum(hot * on, off) if on > off else hot * on + (1 - hot) * off


def mean_squared_error(x: Array, target: Array) -> tuple[float, Array]:
    """Eq. (26)."""
    error = x - target
    return float(np.mean(error**2)), 2 * error / error.size


def cross_entropy(logits: Array, labels: NDArray[np.integer]) -> tuple[float, Array]:
    """Eq. (27), logits (B, C)."""
    hot = one_hot(labels, logits.shape[1])
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    return float(-(hot * log_p).sum() / len(logits)), (np.exp(log_p) - hot) / len(logits)


def spike_counts(spk: Array, num_classes: int | None = None) -> Array:
    """Eq. (28), (B, C) or (B, K)."""
    _, B, N = spk.shape
    return spk.sum(axis=0).reshape(B, num_classes or N, -1).sum(axis=2)


def spread_counts(dcounts: Array, spk: Array) -> Array:
    """The adjoint of (28): the same at every step and over each block."""
    return np.broadcast_to(np.repeat(dcounts, spk.shape[2] // dcounts.shape[1], axis=1), spk.shape).copy()


def mse_count_loss(
    spk: Array,
    labels: NDArray[np.integer],
    correct_rate: float = 1,
    incorrect_rate: float = 0,
    population_code: bool = False,
    num_classes: int | None = None,
) -> tuple[float, Array]:
    """(26) between the counts (28) and int(T * rate * N/K), divided by T."""
    T, _, N = spk.shape
    counts = spike_counts(spk, num_classes if population_code else None)
    K = counts.shape[1]
    on, off = (int(T * rate * (N / K)) for rate in (correct_rate, incorrect_rate))
    value, dcounts = mean_squared_error(counts, class_targets(labels, K, on, off))
    return value / T, spread_counts(dcounts / T, spk)


def mse_membrane_loss(
    mem: Array,
    targets: NDArray[Any],
    time_var_targets: bool = False,
    on_target: float = 1,
    off_target: float = 0,
) -> tuple[float, Array]:
    """(26) between mem and the target of each step: (25) of the labels, or a trajectory (T, B, C)."""
    if not time_var_targets:
        targets = class_targets(targets, mem.shape[2], on_target, off_target)
    return mean_squared_error(mem, targets)


def ce_rate_loss(spk: Array, labels: NDArray[np.integer]) -> tuple[float, Array]:
    """mean_t of (27)."""
    T = len(spk)
    values, gradients = zip(*(cross_entropy(S, labels) for S in spk), strict=True)
    return sum(values) / T, np.stack(gradients) / T


def ce_count_loss(
    spk: Array, labels: NDArray[np.integer], population_code: bool = False, num_classes: int | None = None
) -> tuple[float, Array]:
    """(27) of the counts (28)."""
    value, dcounts = cross_entropy(spike_counts(spk, num_classes if population_code else None), labels)
    return value, spread_counts(dcounts, spk)


def ce_max_membrane_loss(mem: Array, labels: NDArray[np.integer]) -> tuple[float, Array]:
    """(27) of max_t U; the gradient goes to the step of the maximum, the first of equals."""
    value, dmax = cross_entropy(mem.max(axis=0), labels)
    return value, (np.arange(len(mem))[:, None, None] == mem.argmax(axis=0)) * dmax


def first_spike_times(spk: Array) -> Array:
    """Eq. (29), (B, C)."""
    return float64(np.where(spk.any(axis=0), (spk != 0).argmax(axis=0), len(spk) - 1))


def spread_times(dtimes: Array, times: Array, num_steps: int) -> Array:
    """The straight-through adjoint of (29): an earlier spike is a larger S."""
    return (np.arange(num_steps)[:, None, None] == times) * -dtimes


def mse_of_times(times: Array, targets: Array, num_steps: int, tolerance: float = 0) -> tuple[float, Array]:
    """(26) of times over T; a time nearer to its target than the tolerance counts as the target."""
    times = np.where(abs(times - targets) < tolerance, targets, times)
    value, dtimes = mean_squared_error(times / num_steps, targets / num_steps)
    return value, dtimes / num_steps


def mse_temporal_loss(
    spk: Array,
    targets: NDArray[Any],
    target_is_time: bool = False,
    on_target: float = 0,
    off_target: float = -1,
    tolerance: float = 0,
) -> tuple[float, Array]:
    """mse_of_times of (29); targets are (25) of labels, or times (B, C); negative ones count back from T."""
    T, _, C = spk.shape
    goal = float64(targets) if target_is_time else class_targets(targets, C, on_target, off_target)
    times = first_spike_times(spk)
    value, dtimes = mse_of_times(times, np.where(goal < 0, T + goal, goal), T, tolerance)
    return value, spread_times(dtimes, times, T)


def ce_of_times(times: Array, labels: NDArray[np.integer], inverse: str = "negate") -> tuple[float, Array]:
    """(27) of -f (negate) or 1 / (f + 1) (reciprocal)."""
    reciprocal = inverse == "reciprocal"
    value, dlogits = cross_entropy(1 / (times + 1) if reciprocal else -times, labels)
    return value, -dlogits / (times + 1) ** 2 if reciprocal else -dlogits


def ce_temporal_loss(spk: Array, labels: NDArray[np.integer], inverse: str = "negate") -> tuple[float, Array]:
    """ce_of_times of (29)."""
    times = first_spike_times(spk)
    value, dtimes = ce_of_times(times, labels, inverse)
    return value, spread_times(dtimes, times, len(spk))


def l1_rate_sparsity(spk: Array, Lambda: float = 1e-5) -> tuple[float, Array]:
    return float(Lambda * spk.sum()), np.full_like(spk, Lambda)


def accuracy_rate(
    spk: Array, labels: NDArray[np.integer], population_code: bool = False, num_classes: int | None = None
) -> float:
    """The largest count (28) wins, the lowest index of equals; all silent is class 0."""
    counts = spike_counts(spk, num_classes if population_code else None)
    return float(np.mean(counts.argmax(axis=1) == labels))


def accuracy_temporal(spk: Array, labels: NDArray[np.integer]) -> float:
    """The earliest first spike (29) wins, the lowest index of equals; silent is as late as T - 1."""
    return float(np.mean(first_spike_times(spk).argmin(axis=1) == labels))


# Optimizers -------------------------------------------------------------------------------------------------
#
#   step t = 1, 2, ... of a parameter p with gradient g; wd is weight_decay
#   (30) Adam:  g += wd p;   m += (1-b1)(g - m);   v = b2 v + (1-b2) g^2
#               p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)
#   (31) AdamW: p *= 1 - lr wd;   then (30) with wd = 0
#   (32) SGD:   g += wd p;   buf = momentum * buf + g;   p -= lr * (nesterov: g + momentum * buf | buf)
#
#   `state` is a dict that starts empty and is the parameter's own


def adam_step(
    parameter: Array,
    gradient: Array,
    state: dict[str, Any],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
) -> Array:
    """Eq. (30): returns the new parameter, updates state."""
    b1, b2 = betas
    gradient = gradient + weight_decay * parameter
    t = state["t"] = state.get("t", 0) + 1
    m, v = state.get("m", np.zeros_like(parameter)), state.get("v", np.zeros_like(parameter))
    m = state["m"] = m + (1 - b1) * (gradient - m)
    v = state["v"] = b2 * v + (1 - b2) * gradient**2
    return parameter - lr / (1 - b1**t) * m / (np.sqrt(v) / np.sqrt(1 - b2**t) + eps)


def adamw_step(
    parameter: Array,
    gradient: Array,
    state: dict[str, Any],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Array:
    """Eq. (31)."""
    return adam_step(parameter * (1 - lr * weight_decay), gradient, state, lr, betas, eps)


def sgd_step(
    parameter: Array,
    gradient: Array,
    state: dict[str, Any],
    lr: float = 1e-3,
    momentum: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
) -> Array:
    """Eq. (32)."""
    gradient = gradient + weight_decay * parameter
    buffer = state["buffer"] = momentum * state.get("buffer", 0) + gradient
    return parameter - lr * (gradient + momentum * buffer if nesterov else buffer)


# The tutorial net -------------------------------------------------------------------------------------------
#
#   (33) x (B, n), at every step the same -> fc1 (3) -> rleaky1 -> fc2 -> rleaky2 -> spk, mem (T, B, C)
#   (34) parameters: "fc1.weight", "fc1.bias", "rleaky1.recurrent.weight", "rleaky1.recurrent.bias", where
#        they learn "rleaky1.beta" and "rleaky1.threshold", and the same with 2


@dataclass
class Step:
    """One training step, before its update, and the parameters after it."""

    loss: float
    accuracy: float
    spk_hidden: Array
    spk: Array
    mem: Array
    gradients: Gradients
    parameters: dict[str, Array]


def layer_parameters(parameters: dict[str, Array], layer: str) -> dict[str, Array]:
    """{"weight": ..., "bias": ..., ...} of one layer, the last word of each name in (34)."""
    return {name.split(".")[-1]: p for name, p in parameters.items() if name.startswith(layer + ".")}


def tutorial_forward(
    parameters: dict[str, Array], x: Array, num_steps: int, **neuron: Any
) -> tuple[list[Array], list[Array], list[Tape]]:
    """Eq. (33): spk, mem and tape of rleaky1 and of rleaky2. `neuron` holds what (34) does not: beta,
    threshold, reset_mechanism, reset_delay.
    """
    of = {layer: layer_parameters(parameters, layer) for layer in ("fc1", "rleaky1", "fc2", "rleaky2")}
    constant = linear_forward(x, **of["fc1"])  # (3)
    current = np.broadcast_to(constant, (num_steps, *constant.shape))
    spk1, mem1, tape1 = rleaky_forward(current, **(neuron | of["rleaky1"]))
    spk2, mem2, tape2 = rleaky_forward(linear_forward(spk1, **of["fc2"]), **(neuron | of["rleaky2"]))
    return [spk1, spk2], [mem1, mem2], [tape1, tape2]


def tutorial_backward(
    parameters: dict[str, Array],
    x: Array,
    spk1: Array,
    tapes: list[Tape],
    dspk: Array | None = None,
    dmem: Array | None = None,
    surrogate: Elementwise | None = None,
) -> Gradients:
    """Back through (33), one gradient for each of (34)."""
    of = {"rleaky2": rleaky_backward(tapes[1], dspk, dmem, surrogate)}
    of["fc2"] = linear_backward(of["rleaky2"]["current"], spk1, parameters["fc2.weight"])
    of["rleaky1"] = rleaky_backward(tapes[0], of["fc2"]["x"], None, surrogate)
    of["fc1"] = linear_backward(of["rleaky1"]["current"], x, parameters["fc1.weight"])
    return {name: of[name.split(".")[0]][name.split(".")[-1]] for name in parameters}


def train(
    parameters: dict[str, Array],
    batches: Iterable[tuple[Array, NDArray[np.integer]]],
    num_steps: int,
    loss: Callable[[Array, NDArray[np.integer]], tuple[float, Array]],
    on: str = "spk",
    surrogate: Elementwise | None = None,
    adam: dict[str, Any] | None = None,
    **neuron: Any,
) -> Iterator[Step]:
    """Train (33) with Adam, a batch (x, labels) at a time; the loss is of the output's "spk" or "mem".
    Yields each step once it is done.
    """
    states: dict[str, dict[str, Any]] = {name: {} for name in parameters}
    for x, labels in batches:
        (spk1, spk), (_, mem), tapes = tutorial_forward(parameters, x, num_steps, **neuron)
        value, d = loss(spk if on == "spk" else mem, labels)
        gradients = tutorial_backward(parameters, x, spk1, tapes, **{f"d{on}": d}, surrogate=surrogate)
        parameters = {
            name: adam_step(p, gradients[name], states[name], **(adam or {})) for name, p in parameters.items()
        }
        yield Step(value, accuracy_rate(spk, labels), spk1, spk, mem, gradients, parameters)


def mnist_pixels(split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 784) and labels (n,) of "train" or "t10k", from the IDX files in folder SNNUMBA_MNIST."""
    folder = os.environ.get("SNNUMBA_MNIST")
    if not folder:
        raise FileNotFoundError("needs MNIST: set SNNUMBA_MNIST to the folder with its four IDX files")

    def read(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(Path(folder) / f"{split}-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    return read("images-idx3", 16).reshape(-1, 784), read("labels-idx1", 8)
