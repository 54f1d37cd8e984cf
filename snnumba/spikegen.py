"""Spikes from values: rate, latency and change codes; arrays in, arrays out, time first.

    from snnumba import spikegen
    spk = spikegen.rate(images, num_steps=10, seed=0)             # (B, 784) in [0, 1] -> (10, B, 784) of 0 and 1

With x a value, t a step, t0 = first_spike_time and T = num_steps:

    (1) rate:    s[t] = 1 with probability min(max(gain x + offset, 0), 1),    0 where t < t0
    (2) latency: s[t] = 1 at t = round(t0 + tau ln(y / (y - threshold))),      y = max(x, threshold + 1e-7)
                 linear:       round(t0 + tau (1 - max(x, threshold)))
    (3) normalized: tau such that the last spike of all is at T - 1; linear: that of x = 0 would be
    (4) delta:   s[t] = [x[t] - x[t-1] >= threshold] - [x[t] - x[t-1] <= -threshold],    the latter with off_spike

(2) is the step at which a membrane that x charges, with time constant tau, comes to the threshold; halves are rounded
to even. Semantics of snnTorch 1.0's spikegen; its codes of targets are the business of the losses here.
Source: Eshraghian et al. 2023, arXiv:2109.12894.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import as_array, check_flag, check_number
from .layers.base import Array, check_seed, check_size

LATEST = 2.0**62  # a step that no run comes to
EPSILON = 1e-7  # a value at the threshold would never come to it


def rate(
    data: npt.ArrayLike,
    num_steps: int | None = None,
    gain: float = 1.0,
    offset: float = 0.0,
    first_spike_time: int = 0,
    time_var_input: bool = False,
    *,
    seed: int | np.random.Generator | None = None,
) -> Array:
    """Spikes at random, more of them for larger values, eq. (1).

    Parameters
    ----------
    data : (...) or, with time_var_input, (T, ...)      gain * data + offset is clipped to [0, 1]
    num_steps : int                                     T; not given with time_var_input
    gain, offset : float                                snnTorch leaves them out with time_var_input
    first_spike_time : int >= 0                         no spikes before it: with time_var_input so many steps without
                                                        spikes go before the T
    time_var_input : bool                               whether data has a time axis
    seed : int or numpy Generator                       None: other spikes each time

    Returns
    -------
    (T, ...) of 0 and 1, float64 where data is an array of that, else float32

    Raises
    ------
    TypeError, ValueError
        if data is not such numbers, or an argument is not such or contradicts another.

    >>> rate([0.0, 1.0], num_steps=3, first_spike_time=1, seed=0)
    array([[0., 0.],
           [0., 1.],
           [0., 1.]], dtype=float32)
    """
    x = _check_data(data, time=check_flag("time_var_input", time_var_input))
    if time_var_input == (num_steps is not None):
        raise ValueError(
            f"num_steps must be given where data has no time axis, and only there; "
            f"got num_steps={num_steps} and time_var_input={time_var_input}"
        )
    gain, offset = check_number("gain", gain), check_number("offset", offset)
    steps, start = _check_steps(num_steps, first_spike_time)
    shape = x.shape if steps is None else (steps, *x.shape)
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(check_seed(seed))
    spk = (rng.random(shape, x.dtype) < gain * x + offset).astype(x.dtype)  # in [0, 1): (1)
    if time_var_input:
        return np.concatenate([np.zeros((start, *shape[1:]), x.dtype), spk])
    spk[:start] = 0
    return spk


def latency(
    data: npt.ArrayLike,
    num_steps: int | None = None,
    threshold: float = 0.01,
    tau: float = 1.0,
    first_spike_time: int = 0,
    clip: bool = False,
    normalize: bool = False,
    linear: bool = False,
    bypass: bool = False,
) -> Array:
    """One spike per value, the earlier the larger the value, eqs. (2) and (3).

    Parameters
    ----------
    data : (...) in [0, 1]
    num_steps : int                   T; None, with bypass: as many as the last spike needs
    threshold : float in (0, 1)       values below it fire as late as one at it
    tau : float > 0                   steps; not used where linear and normalize are set
    first_spike_time : int >= 0       steps before the spike of an endlessly large value; of 1 where linear
    clip : bool                       values below threshold do not fire
    normalize : bool                  use all of num_steps; where not linear, the last spike of data is then at T - 1
    linear : bool                     the time falls in proportion to the value
    bypass : bool                     leave out spikes after num_steps, which are an error otherwise

    Returns
    -------
    (T, ...) of 0 and 1, float64 where data is an array of that, else float32

    Raises
    ------
    TypeError, ValueError
        if data is not such numbers, an argument is not such or contradicts another, or a spike comes after num_steps.

    >>> latency([0.02, 0.5, 1.0], num_steps=5, normalize=True, linear=True)
    array([[0., 0., 1.],
           [0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    x = _check_data(data)
    flags = {"clip": clip, "normalize": normalize, "linear": linear, "bypass": bypass}
    clip, normalize, linear, bypass = (check_flag(name, flag) for name, flag in flags.items())
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"data must lie in [0, 1]; got [{x.min()}, {x.max()}]")
    threshold, tau = check_number("threshold", threshold), check_number("tau", tau, x.dtype)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1; got {threshold}")
    if not tau > 0:
        raise ValueError(f"tau must be above 0; got {tau}")
    if num_steps is None and (normalize or not bypass):
        raise ValueError(
            f"num_steps must be given, but for bypass without normalize; got bypass={bypass} and normalize={normalize}"
        )
    steps, start = _check_steps(num_steps, first_spike_time)

    if linear:
        if normalize and steps is not None:
            tau = steps - 1 - start  # (3)
        delay = np.minimum(tau * (1 - x), tau * (1 - threshold))
    else:
        y = np.maximum(x, threshold + EPSILON)
        delay = tau * np.log(y / (y - threshold))
        if normalize and steps is not None:
            delay = delay * (steps - 1 - start) / (delay.max() or 1)  # (3)
    times = np.rint(np.minimum(delay + start, LATEST)).astype(np.int64)
    last = int(times.max())
    if steps is None:
        steps = last + 1
    elif last >= steps and not bypass:
        raise ValueError(
            f"the last spike is at step {last} and num_steps is {steps}: set normalize, or a smaller tau, or bypass"
        )
    fires = (times < steps) & (x >= threshold) if clip else times < steps
    spk: Array = (times == np.arange(steps).reshape(-1, *[1] * x.ndim)) & fires
    return spk.astype(x.dtype)


def delta(data: npt.ArrayLike, threshold: float = 0.1, padding: bool = False, off_spike: bool = False) -> Array:
    """Spikes where a value has grown by the threshold since the step before, eq. (4).

    Parameters
    ----------
    data : (T, ...)
    threshold : float >= 0
    padding : bool                    whether the step before the first is taken to be like it, and not all zeros
    off_spike : bool                  give -1 where a value has fallen by the threshold

    Returns
    -------
    (T, ...) of 0, 1 and, with off_spike, -1; float64 where data is an array of that, else float32

    Raises
    ------
    TypeError, ValueError
        if data is not such numbers, or threshold not such a number.

    >>> delta([1, 2, 0, 2, 2.9], threshold=1, padding=True, off_spike=True)
    array([ 0.,  1., -1.,  1.,  0.], dtype=float32)
    """
    x = _check_data(data, time=True)
    padding, off_spike = check_flag("padding", padding), check_flag("off_spike", off_spike)
    threshold = check_number("threshold", threshold)
    if threshold < 0:
        raise ValueError(f"threshold must be at least 0; got {threshold}")
    change = np.diff(x, axis=0, prepend=x[:1] if padding else np.zeros_like(x[:1]))
    spk = (change >= threshold).astype(x.dtype)
    if off_spike:
        spk -= change <= -threshold
    return spk


def _check_data(data: npt.ArrayLike, time: bool = False) -> Array:
    """Finite numbers: an array of float64 as it is, all else as float32."""
    x = as_array("data", data)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"data must hold numbers; got {x.dtype}")
    if time and x.ndim == 0:
        raise ValueError(f"data must be (T, ...), time first; got {x.shape}")
    if x.size == 0:
        raise ValueError(f"data must not be empty; got {x.shape}")
    with np.errstate(over="ignore"):
        x = x.astype(np.float64 if getattr(data, "dtype", None) == np.float64 else np.float32, copy=False)
    if not np.isfinite(x).all():
        raise ValueError(f"data must hold finite numbers; {np.count_nonzero(~np.isfinite(x))} of {x.size} are not")
    return x


def _check_steps(num_steps: Any, first_spike_time: Any) -> tuple[int | None, int]:
    """T, or None where it is not given, and t0."""
    steps = None if num_steps is None else check_size("num_steps", num_steps)
    start = first_spike_time
    if isinstance(start, bool) or not isinstance(start, int | np.integer) or start < 0:
        raise ValueError(f"first_spike_time must be a step, 0 or later; got {start!r}")
    if steps is not None and start >= steps:
        raise ValueError(f"first_spike_time must be below num_steps, {steps}; got {start}")
    return steps, int(start)
