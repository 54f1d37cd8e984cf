"""Regularizers: a value and the gradient for an output, whatever its targets, to be added to a loss.

A regularizer is called with an output (T, B, C), gives a value and the gradient (T, B, C), and has an attribute
`output`, "spk" or "mem", the one it is for. `loss_fn + regularizer` is the loss with both added.
"""

from typing import Any, Protocol, cast

import numpy.typing as npt

from .. import backend
from ..checks import Watched
from ..kernels.cpu import Workspace
from ..layers.base import Array
from .checks import check_finite, check_output


class _Loss(Protocol):
    @property
    def output(self) -> str: ...

    def __call__(self, output: Array, targets: npt.ArrayLike, /) -> tuple[Any, Array]: ...


class l1_rate_sparsity(Watched):
    """Few spikes: Lambda sum_TBC spk, and the gradient Lambda everywhere.

    Parameters
    ----------
    Lambda : float          how much a spike costs

    Raises
    ------
    ValueError
        if Lambda is not finite.

    >>> import numpy as np
    >>> from snnumba import functional as SF
    >>> spk = np.ones((10, 1, 2))
    >>> value, dspk = SF.l1_rate_sparsity(0.01)(spk)
    >>> value, dspk.shape                   # 20 spikes
    (0.2, (10, 1, 2))
    >>> loss_fn = SF.mse_count_loss() + SF.l1_rate_sparsity(0.01)
    >>> loss_fn(spk, [0])[0]                # (0^2 + 10^2) / (1 * 2 * 10) + 0.2
    5.2
    """

    output = "spk"

    def __init__(self, Lambda: float = 1e-5) -> None:
        self.Lambda = check_finite("Lambda", Lambda)
        self._work = Workspace()

    def __repr__(self) -> str:
        return f"l1_rate_sparsity({self.Lambda})"

    def __call__(self, spk: Array) -> tuple[float, Array]:
        """The value for spk (T, B, C) float, and its gradient (T, B, C).

        Raises
        ------
        TypeError, ValueError
            if spk is not such an array.
        """
        spk = check_output("spk", spk)
        kernels = backend.of(spk)
        return self.Lambda * float(kernels.to_host(spk).sum()), self._gradient(spk)

    def terms(self, spk: Array) -> tuple[list[tuple[Array, float]], Array]:
        """As Loss.terms."""
        return [(spk, 1 / self.Lambda)] if self.Lambda else [], self._gradient(spk)

    def _gradient(self, spk: Array) -> Array:
        kernels = backend.of(spk)
        if self._work.kernels is not kernels:
            self._work = kernels.Workspace()
        gradient = self._work.empty("gradient", spk.shape, spk.dtype)
        kernels.fill(gradient, spk.dtype.type(self.Lambda))
        return gradient


class Regularized(Watched):
    """A loss and a regularizer of the same output: the sums of their values and of their gradients."""

    def __init__(self, loss_fn: _Loss, regularizer: Any) -> None:
        if not callable(regularizer) or getattr(regularizer, "output", None) not in ("spk", "mem"):
            raise TypeError(f'regularizer must be one whose output is "spk" or "mem"; got {regularizer!r}')
        if regularizer.output != loss_fn.output:
            raise ValueError(
                f"regularizer must be for {loss_fn.output}, as {loss_fn!r} is; {regularizer!r} is for "
                f"{regularizer.output}"
            )
        self.loss_fn, self.regularizer = loss_fn, regularizer
        self.output = loss_fn.output
        self.num_classes = getattr(loss_fn, "num_classes", None)
        self.reduction = getattr(loss_fn, "reduction", "mean")

    def __repr__(self) -> str:
        return f"{self.loss_fn!r} + {self.regularizer!r}"

    def __add__(self, regularizer: Any) -> "Regularized":
        return Regularized(self, regularizer)

    @property
    def labelled(self) -> bool:
        """As Loss.labelled."""
        return getattr(self.loss_fn, "labelled", False) and hasattr(self.regularizer, "terms")

    def terms(self, output: Array, labels: Array) -> tuple[list[tuple[Array, float]], Array]:
        """As Loss.terms."""
        losses, gradient = cast(Any, self.loss_fn).terms(output, labels)
        more, extra = self.regularizer.terms(output)
        backend.of(gradient).add(gradient, extra, gradient)
        return [*losses, *more], gradient

    def __call__(self, output: Array, targets: npt.ArrayLike) -> tuple[float, Array]:
        """As of the loss."""
        loss, gradient = self.loss_fn(output, targets)
        value, extra = self.regularizer(output)
        backend.of(gradient).add(gradient, extra, gradient)
        return loss + value, gradient
