"""The two criteria that losses put on what they read, squared error and cross-entropy, with reductions and weights.

l is as in eqs. (4) and (5) of kernels/cpu/loss.py, with the weight of the class in it (1 without weights); D is what
the loss divides the sum over its steps by:

    (6) squared error  l[b, k], each class with its own weight:    none: l / D    sum: sum_BK l / D
                       mean: sum_BK l / (D B K), weights or not
    (7) cross-entropy  l[b], each sample with its label's weight:  none: l / D    sum: sum_B l / D
                       mean: sum_B l / (D sum_B w[y]), as torch.nn.CrossEntropyLoss; 0 where those weights are all 0

The gradient is that of the value; with "none", that of the sum of the values: each depends on its own sample alone,
and in (6) on its own class, so it is the gradient of each. snnTorch 1.0 weights (6) by the sample's label, along the
wrong axis; divides the mean of (7) by B, but for ce_temporal_loss; and leaves a weighted sum unsummed.
"""

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backend
from ..checks import Watched, check_choice
from ..kernels.cpu import Workspace
from ..layers.base import Array
from .checks import check_labels, check_output, check_weight
from .readings import Reading
from .regularizers import Regularized

REDUCTIONS = ("mean", "sum", "none")


class Loss(Watched):
    """A criterion on what is read from an output (T, B, C), value and gradient."""

    output = "spk"  # which output of a net it is for: "spk" or "mem"

    def __init__(self, reading: Reading, reduction: str, weight: npt.ArrayLike | None) -> None:
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)
        self.weight = None if weight is None else check_weight(weight)
        self._reading = reading
        self._work = Workspace()
        self._host = Workspace()  # for what is made of targets, before it goes to the output's device
        self._cast_weight = np.empty(0)
        self._weights: tuple[Any, Array] | None = None  # the same, with the kernels for where it lies

    def __repr__(self) -> str:
        """As one would write it, defaults left out."""
        given = {
            name: getattr(self, name)
            for name, parameter in inspect.signature(type(self)).parameters.items()
            if getattr(self, name) is not parameter.default and np.any(getattr(self, name) != parameter.default)
        }
        shown = [f"{name}={x.tolist() if isinstance(x, np.ndarray) else x!r}" for name, x in given.items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __add__(self, regularizer: Any) -> Regularized:
        """The loss with a regularizer's value and gradient added."""
        if self.reduction == "none":
            raise ValueError('reduction must be "mean" or "sum" where a regularizer is added; got "none"')
        return Regularized(self, regularizer)

    def __call__(self, output: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """The loss of an output, and its gradient.

        Parameters
        ----------
        output : (T, B, C) float32 or float64
        targets : (B,) integers in [0, C)         labels, or what the loss says it takes

        Returns
        -------
        loss : float, or with reduction "none" an array; see criteria.py
        gradient : (T, B, C)                      of the dtype of the output; stays as it is for as long as it is kept

        Raises
        ------
        TypeError, ValueError
            if output or targets are not such, or the weights are not C.
        """
        output = check_output(self.output, output)
        classes = self._prepare(output)
        with self._work.kernels.team.together():  # over samples
            target = self._target(targets, output, classes)
            (loss, divisor), gradient = self._compare(output, target)
        loss = self._work.kernels.to_host(loss)
        if self.reduction == "none":
            loss /= loss.dtype.type(divisor)
            return loss, gradient
        return float(loss.sum()) / divisor, gradient

    def terms(self, output: Array, labels: Array) -> tuple[list[tuple[Array, float]], Array]:
        """The loss as sums over arrays, each with what it is to be divided by, and its gradient, without the host.

        labels (B,) int64 lie where the output does, and are known to be classes. Only where `labelled`.
        """
        self._prepare(output)
        term, gradient = self._compare(output, self._of_labels(labels, output))
        return [term], gradient

    @property
    def labelled(self) -> bool:
        """Whether `terms` can be had: targets are labels, and nothing needs to be known of those of a batch before."""
        return self.reduction != "none"

    def _prepare(self, output: Array) -> int:
        """Bring work arrays to where an output is, and weights to its type; how many classes it has."""
        kernels = backend.of(output)
        if self._work.kernels is not kernels:
            self._work = kernels.Workspace()
        classes = self._reading.classes(self.output, output.shape[2])
        self._weight_there(classes, output.dtype)
        return classes

    def _compare(self, output: Array, target: Array) -> tuple[tuple[Array, float], Array]:
        """l and what its sum is to be divided by; the gradient of the output."""
        x, spread = self._reading(output, self._work)
        dx = self._work.empty("dx", x.shape, x.dtype)
        term = self._criterion(x, target, self._divisor(len(output)), dx)
        return term, spread(dx)

    def _divisor(self, steps: int) -> float:
        """D, of the T steps."""
        return 1

    def _target(self, targets: npt.ArrayLike, output: Array, classes: int) -> Array:
        """The targets, checked, as the criterion takes them."""
        raise NotImplementedError

    def _of_labels(self, labels: Array, output: Array) -> Array:
        """The same for labels that lie where the output does."""
        raise NotImplementedError

    def _criterion(self, x: Array, target: Array, divisor: float, dx: Array) -> tuple[Array, float]:
        """l, and what its sum is to be divided by; dx written in full, divided by it."""
        raise NotImplementedError

    def _weight_there(self, classes: int, dtype: np.dtype[Any]) -> None:
        """Have the weights of the classes in this dtype, 1 where none were given, on the host and with the output."""
        if self.weight is not None and self.weight.shape != (classes,):
            raise ValueError(f"weight must be ({classes},), one per class; got {self.weight.shape}")
        kernels, cast = self._work.kernels, self._cast_weight
        if cast.shape != (classes,) or cast.dtype != dtype:
            cast = self._cast_weight = np.ones(classes, dtype)
            if self.weight is not None:
                cast[:] = self.weight
            self._weights = None
        if self._weights is None or self._weights[0] is not kernels:
            self._weights = kernels, kernels.from_host(cast)


class SquaredError(Loss):
    """Eqs. (4) and (6): against a target (1 or S, B, K)."""

    tolerance = 0.0

    def _levels(self, steps: int, outputs: int, classes: int) -> tuple[float, float]:
        """What is asked of the class of the label, and of the others."""
        raise NotImplementedError

    def _target(self, targets: npt.ArrayLike, output: Array, classes: int) -> Array:
        labels = check_labels("targets", targets, output.shape[1], classes)
        return self._of_labels(self._work.kernels.from_host(labels), output)

    def _of_labels(self, labels: Array, output: Array) -> Array:
        steps, batch, outputs = output.shape
        classes = self._reading.classes(self.output, outputs)
        on, off = self._levels(steps, outputs, classes)
        target: Array = self._work.empty("target", (1, batch, classes), output.dtype)
        number = output.dtype.type
        self._work.kernels.class_targets(labels, number(on), number(off), target)
        return target

    def _copied_target(self, targets: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Targets given as an array, broadcast to a work array on the host."""
        target = self._host.empty("target", shape, dtype)
        np.copyto(target, targets, casting="same_kind")
        return target

    def _on_device(self, target: Array) -> Array:
        """A work array on the host as one beside the output."""
        moved: Array = self._work.kernels.from_host(target)
        return moved

    def _criterion(self, x: Array, target: Array, divisor: float, dx: Array) -> tuple[Array, float]:
        _, batch, classes = x.shape
        if self.reduction == "mean":
            divisor *= batch * classes
        loss = self._work.empty("loss", (batch, classes), x.dtype)
        number = x.dtype.type
        assert self._weights is not None
        kernels, weight = self._weights
        kernels.squared_error(x, target, weight, number(self.tolerance), number(2 / divisor), dx, loss)
        return loss, divisor


class CrossEntropy(Loss):
    """Eqs. (5) and (7): against labels (B,)."""

    _sum_of_weights: float | None = None  # of the labels of the batch; None: each is 1

    @property
    def labelled(self) -> bool:
        return super().labelled and (self.weight is None or self.reduction == "sum")  # else (7) needs sum_B w[y]

    def _target(self, targets: npt.ArrayLike, output: Array, classes: int) -> Array:
        labels = check_labels("targets", targets, output.shape[1], classes)
        self._sum_of_weights = None
        if self.weight is not None and self.reduction == "mean":
            counted = self._host.empty("weights", labels.shape, output.dtype)
            self._cast_weight.take(labels, out=counted, mode="clip")  # "raise" would make an array
            self._sum_of_weights = float(counted.sum()) or 1.0
        return self._of_labels(self._work.kernels.from_host(labels), output)

    def _of_labels(self, labels: Array, output: Array) -> Array:
        return labels

    def _criterion(self, x: Array, target: Array, divisor: float, dx: Array) -> tuple[Array, float]:
        loss = self._work.empty("loss", target.shape, x.dtype)
        if self.reduction == "mean":
            divisor *= self._sum_of_weights or len(loss)
        assert self._weights is not None
        kernels, weight = self._weights
        kernels.cross_entropy(x, target, weight, x.dtype.type(1 / divisor), dx, loss)
        return loss, divisor


def class_levels(on: float, off: float) -> tuple[float, float]:
    """What snnTorch makes of `on` and `off`: max(onehot on, off) where on > off, so a negative `off` is 0 then."""
    return (on, max(0.0, off)) if on > off else (on, off)
