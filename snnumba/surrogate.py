"""Surrogate gradients, as the user names them: `RLeaky(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=10))`.

A spike is H(x) = 1 if x > 0 else 0, where x is the membrane less the threshold, and its derivative is of no use. A
surrogate takes its place in the backward pass; the forward pass is always H. The formulas are in kernels/rules.py.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from .checks import is_finite
from .kernels import rules

# Each surrogate's name, and the integer that chooses its rule in a compiled kernel.
KINDS = {
    "atan": rules.ATAN,
    "fast_sigmoid": rules.FAST_SIGMOID,
    "sigmoid": rules.SIGMOID,
    "straight_through_estimator": rules.STRAIGHT_THROUGH_ESTIMATOR,
    "triangular": rules.TRIANGULAR,
    "spike_rate_escape": rules.SPIKE_RATE_ESCAPE,
    "SFS": rules.SFS,
    "LSO": rules.LSO,
}


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient: one of KINDS and the two parameters of its rule, or a function of the user's.

    Called with an array x, gives the derivative at x in float64.

    >>> atan(alpha=2.0)([0.0, 1.0]).round(4)
    array([1.   , 0.092])
    """

    name: str
    a: float = 0.0
    b: float = 0.0
    function: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        names = inspect.signature(globals()[self.name]).parameters if self.name in KINDS else ()
        for name, value in zip(names, (self.a, self.b), strict=False):
            if not is_finite(value):
                raise ValueError(f"{name} of {self.name} must be a finite number; got {value!r}")

    @property
    def kind(self) -> int:
        """The integer that chooses its rule."""
        return KINDS.get(self.name, rules.NO_GRADIENT)

    def __call__(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The derivative at x."""
        x = np.asarray(x, np.float64)
        if self.function is not None:
            return np.asarray(np.vectorize(self.function, otypes=[np.float64])(x))
        derivative = np.vectorize(rules.surrogate, otypes=[np.float64])
        return np.asarray(derivative(x, self.kind, self.a, self.b))


def atan(alpha: float = 2.0) -> Surrogate:
    """(alpha/2) / (1 + (pi alpha x / 2)^2), the default. Fang et al. 2021, arXiv:2007.05785."""
    return Surrogate("atan", alpha)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """1 / (slope |x| + 1)^2. Zenke and Ganguli 2018, arXiv:1705.11146."""
    return Surrogate("fast_sigmoid", slope)


def sigmoid(slope: float = 25.0) -> Surrogate:
    """slope e / (1 + e)^2 with e = exp(-|slope x|). Zenke and Ganguli 2018, arXiv:1705.11146."""
    return Surrogate("sigmoid", slope)


def straight_through_estimator() -> Surrogate:
    """1 everywhere. Bengio et al. 2013, arXiv:1308.3432."""
    return Surrogate("straight_through_estimator")


def triangular(threshold: float = 1.0) -> Surrogate:
    """+threshold where x < 0, else -threshold, as snnTorch computes it. Esser et al. 2016, arXiv:1603.08270."""
    return Surrogate("triangular", threshold)


def spike_rate_escape(beta: float = 1.0, slope: float = 25.0) -> Surrogate:
    """slope exp(-beta |x - 1|). Shrestha and Orchard 2018, arXiv:1810.08646."""
    return Surrogate("spike_rate_escape", beta, slope)


def SFS(slope: float = 25.0, B: float = 1.0) -> Surrogate:
    """1 / (slope |x| + 1)^2 where x > B, else 0. Perez-Nieves and Goodman 2021, arXiv:2105.08810."""
    return Surrogate("SFS", slope, B)


def LSO(slope: float = 0.1) -> Surrogate:
    """1 where x > 0, else slope: a leaky spike operator."""
    return Surrogate("LSO", slope)


def custom_surrogate(function: Callable[[float], float]) -> Surrogate:
    """function(x), a scalar function of the user's that Numba compiles into the kernels.

    It may use the functions of math, numbers and conditions, and nothing else of Python. The kernel with it is compiled
    once a process, on its first use.

    Raises
    ------
    TypeError
        if it is not a function that Numba compiles, from a float to a float.

    >>> boxcar = custom_surrogate(lambda x: 1.0 if abs(x) < 0.5 else 0.0)
    >>> boxcar([0.0, 0.7])
    array([1., 0.])
    """
    function = getattr(function, "py_func", function)  # what was compiled already
    if not callable(function):
        raise TypeError(f"function must be a scalar function; got {function!r}")
    try:
        compiled: Any = numba.njit(function, error_model="numpy")
        value = compiled(0.25)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise TypeError(f"function must be one that Numba compiles; got {function!r}: {reason[0]}") from None
    if not isinstance(value, int | float):
        raise TypeError(f"function must give a number for a number; got {value!r} for 0.25")
    return Surrogate("custom_surrogate", function=function)
