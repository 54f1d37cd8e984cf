"""Surrogate gradients, as the user names them: `RLeaky(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=10))`.

A spike is H(x) = 1 if x > 0 else 0, where x is the membrane less the threshold, and its derivative is of no use. A
surrogate takes its place in the backward pass; the forward pass is always H. The formulas are in kernels/rules.py.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .kernels import rules


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient: which rule of kernels/rules.py, and its two parameters.

    Called with an array x, gives the derivative at x in float64.

    >>> atan(alpha=2.0)([0.0, 1.0]).round(4)
    array([1.   , 0.092])
    """

    name: str
    kind: int
    a: float = 0.0
    b: float = 0.0

    def __call__(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The derivative at x."""
        derivative = np.vectorize(rules.surrogate, otypes=[np.float64])
        return np.asarray(derivative(np.asarray(x, np.float64), self.kind, self.a, self.b))


def atan(alpha: float = 2.0) -> Surrogate:
    """(alpha/2) / (1 + (pi alpha x / 2)^2), the default. Fang et al. 2021, arXiv:2007.05785."""
    return Surrogate("atan", rules.ATAN, alpha)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """1 / (slope |x| + 1)^2. Zenke and Ganguli 2018, arXiv:1705.11146."""
    return Surrogate("fast_sigmoid", rules.FAST_SIGMOID, slope)


def sigmoid(slope: float = 25.0) -> Surrogate:
    """slope e / (1 + e)^2 with e = exp(-|slope x|). Zenke and Ganguli 2018, arXiv:1705.11146."""
    return Surrogate("sigmoid", rules.SIGMOID, slope)


def straight_through_estimator() -> Surrogate:
    """1 everywhere. Bengio et al. 2013, arXiv:1308.3432."""
    return Surrogate("straight_through_estimator", rules.STRAIGHT_THROUGH_ESTIMATOR)


def spike_rate_escape(beta: float = 1.0, slope: float = 25.0) -> Surrogate:
    """slope exp(-beta |x - 1|). Shrestha and Orchard 2018, arXiv:1810.08646."""
    return Surrogate("spike_rate_escape", rules.SPIKE_RATE_ESCAPE, beta, slope)


def SFS(slope: float = 25.0, B: float = 1.0) -> Surrogate:
    """1 / (slope |x| + 1)^2 where x > B, else 0. Perez-Nieves and Goodman 2021, arXiv:2105.08810."""
    return Surrogate("SFS", rules.SFS, slope, B)


def LSO(slope: float = 0.1) -> Surrogate:
    """1 where x > 0, else slope: a leaky spike operator."""
    return Surrogate("LSO", rules.LSO, slope)
