"""What a loss or a metric reads from an output (T, B, N), and the way back of a gradient; eqs. in kernels/cpu/loss.py.

A reading, called with an output and work arrays, gives x (S, B, K), and a function from dx to the gradient of the
output. S is T where every step counts for itself, else 1; K is how many classes there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..kernels.cpu import Workspace
from ..layers.base import Array

Spread = Callable[[Array], Array]


@dataclass(frozen=True)
class Reading:
    """The output itself: every step counts."""

    def classes(self, name: str, outputs: int) -> int:
        """K, of N outputs."""
        return outputs

    def __call__(self, output: Array, work: Workspace) -> tuple[Array, Spread]:
        """x, and how dx goes back to the output."""
        return output, lambda dx: dx


@dataclass(frozen=True)
class Counts(Reading):
    """Eq. (1): the spikes of each output or, where there are fewer classes than outputs, of each class."""

    num_classes: int | None = None

    def classes(self, name: str, outputs: int) -> int:
        classes = self.num_classes or outputs
        if outputs % classes:
            raise ValueError(f"{name} must have outputs in num_classes={classes} equal groups; got {outputs} outputs")
        return classes

    def __call__(self, output: Array, work: Workspace) -> tuple[Array, Spread]:
        def spread(dx: Array) -> Array:
            gradient = work.empty("gradient", output.shape, output.dtype)
            work.kernels.count_backward(dx, gradient)
            return gradient

        _, batch, outputs = output.shape
        x = work.empty("x", (1, batch, self.num_classes or outputs), output.dtype)
        work.kernels.count_forward(output, x)
        return x, spread


@dataclass(frozen=True)
class Peaks(Reading):
    """Eq. (2): the highest membrane of each output."""

    def __call__(self, output: Array, work: Workspace) -> tuple[Array, Spread]:
        x, step = _places(output, work)
        work.kernels.peak_forward(output, x, step)
        return x, lambda dx: _at_step(dx, step, None, output, work)


@dataclass(frozen=True)
class FirstSpikes(Reading):
    """Eq. (3): how early each output spikes first, as -f or, `reciprocal`, as 1/(f + 1)."""

    reciprocal: bool = False

    def __call__(self, output: Array, work: Workspace) -> tuple[Array, Spread]:
        x, step = _places(output, work)
        work.kernels.first_spike_forward(output, self.reciprocal, x, step)
        return x, lambda dx: _at_step(dx, step, x if self.reciprocal else None, output, work)


def _places(output: Array, work: Workspace) -> tuple[Array, Array]:
    """Work arrays for x (1, B, N) and the step (B, N) it is from."""
    shape = output.shape[1:]
    return work.empty("x", (1, *shape), output.dtype), work.empty("step", shape, np.int64)


def _at_step(dx: Array, step: Array, x: Array | None, output: Array, work: Workspace) -> Array:
    """The gradient of an output: dx, or x^2 dx, at one step of each sample's output, 0 elsewhere."""
    gradient = work.empty("gradient", output.shape, output.dtype)
    work.kernels.at_step_backward(dx, step, x, gradient)
    return gradient
