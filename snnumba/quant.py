"""Quantised states: membranes held to a few levels while a net is trained, for hardware with few bits.

The forward pass takes the nearest level, the lower of two as near; the backward pass takes the rounding for the
identity. Of b bits there are 2^b levels between lo = -theta (1 + lower_limit) and hi = theta (1 + upper_limit):

    (1) uniform:      evenly spaced, both ends included
    (2) not uniform:  n = floor(2^b (c - lo) / (hi - lo)) levels below a centre c, theta if thr_centered else 0, and the
                      rest above it, the gaps shrinking towards c as the powers q^k of the multiplier q:
                      lo + (c - lo) sum_{j<k} q^j / sum_{j<n} q^j,  k = 0 ... n-1, and alike down from hi

Source: Venkatesh et al. 2024, arXiv:2404.19668; levels as snnTorch 1.0's functional.quant gives them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import check_flag, is_finite

# q for each number of bits, 0.95 above: snnTorch's.
MULTIPLIERS = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925}
MOST_BITS = 16


@dataclass(frozen=True)
class StateQuant:
    """Quantisation of a state to levels, as `state_quant` of a layer; called with an array, gives the nearest ones.

    >>> StateQuant((-1.0, 0.0, 1.0))([0.4, 0.6, 7.0])
    array([0., 1., 1.])
    """

    levels: tuple[float, ...]

    def __init__(self, levels: Sequence[float]) -> None:
        try:
            numbers = sorted({float(level) for level in levels})
        except (TypeError, ValueError):
            raise TypeError(f"levels must be numbers; got {levels!r}") from None
        if not numbers or not all(map(math.isfinite, numbers)):
            raise ValueError(f"levels must be finite numbers, at least one; got {levels!r}")
        object.__setattr__(self, "levels", tuple(numbers))

    def __call__(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The level nearest to each element of x."""
        levels, x = np.array(self.levels), np.asarray(x, np.float64)
        nearest: npt.NDArray[np.float64] = levels[abs(x[..., None] - levels).argmin(axis=-1)]
        return nearest


def state_quant(
    num_bits: int = 8,
    uniform: bool = True,
    thr_centered: bool = True,
    threshold: float = 1.0,
    lower_limit: float = 0.0,
    upper_limit: float = 0.2,
    multiplier: float | None = None,
) -> StateQuant:
    """The levels of (1) or (2), for the argument `state_quant` of a layer.

    Parameters
    ----------
    num_bits : int                  1 to 16: 2^num_bits levels
    uniform : bool                  whether they are evenly spaced
    thr_centered : bool             if not, whether they are densest at the threshold, or at 0
    threshold : float               of the layer, above 0
    lower_limit, upper_limit : float  how far, as shares of the threshold, they go beyond -threshold and threshold
    multiplier : float              q of (2), above 0; None: one that fits num_bits

    Raises
    ------
    ValueError
        if an argument is out of its range.

    >>> state_quant(num_bits=2, upper_limit=0.5).levels
    (-1.0, -0.16666666666666663, 0.6666666666666667, 1.5)
    """
    uniform, thr_centered = check_flag("uniform", uniform), check_flag("thr_centered", thr_centered)
    if isinstance(num_bits, bool) or not isinstance(num_bits, int) or not 1 <= num_bits <= MOST_BITS:
        raise ValueError(f"num_bits must be an integer from 1 to {MOST_BITS}; got {num_bits!r}")
    for name, number in (("threshold", threshold), ("multiplier", 1 if multiplier is None else multiplier)):
        if not (is_finite(number) and number > 0):
            raise ValueError(f"{name} must be a finite number above 0; got {number!r}")
    for name, number in (("lower_limit", lower_limit), ("upper_limit", upper_limit)):
        if not (is_finite(number) and number >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0; got {number!r}")
    count = 2**num_bits
    low, high = -threshold * (1 + lower_limit), threshold * (1 + upper_limit)
    if uniform:
        return StateQuant(np.linspace(low, high, count).tolist())
    q = MULTIPLIERS.get(num_bits, 0.95) if multiplier is None else multiplier
    centre = threshold if thr_centered else 0.0
    below = math.floor(count * ((centre - low) / (high - low)))
    gaps = np.cumsum(q ** np.arange(below)) / np.sum(q ** np.arange(below))
    lower = low + (centre - low) * np.concatenate([[0.0], gaps])[:below]
    gaps = np.cumsum(q ** np.arange(count - below)[::-1]) / np.sum(q ** np.arange(count - below))
    return StateQuant([*lower.tolist(), *(centre + (high - centre) * gaps).tolist()])
