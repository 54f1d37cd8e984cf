"""A step of training as one call: what its kernels do is recorded, and then done without the Python between them."""

import math
from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import guards, optim
from .functional.checks import check_labels
from .layers.base import Array
from .network import Network, check_net

OUTPUTS = "spk", "mem"  # of a net: what a loss may read


class Loss(Protocol):
    """Value and gradient for an output (T, B, C) and targets; `output` is "spk" or "mem", the one it reads."""

    @property
    def output(self) -> str: ...

    def __call__(self, output: Array, targets: npt.ArrayLike, /) -> tuple[float, Array]: ...


class Optimizer(Protocol):
    """Changes the parameters of `net` by its gradients."""

    @property
    def net(self) -> Network: ...

    def step(self) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...


class TrainingStep:
    """Forward, loss, backward, and the optimizer's change of the weights, in one call.

    To the bit what net.forward, loss_fn, net.backward, optim.clip_grad_norm and optimizer.step do one after the other,
    but faster, the more so the smaller the net: from the second step on that has a batch of the same shape, and nothing
    set anew on net or loss, kernels only do again what they did, on a GPU as one CUDA graph. With a loss whose gradient
    does not follow from labels alone, such as mse_membrane_loss(time_var_targets=True), each step is those calls.

    Parameters
    ----------
    net : Network
    loss_fn : such as functional.mse_count_loss(), of one number
    optimizer : such as optim.Adam(net)
    clip : float > 0            the largest norm of all gradients together, as optim.clip_grad_norm; None: any

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    >>> from snnumba import Linear, Network, RLeaky, TrainingStep, functional as SF, optim
    >>> net = Network(Linear(3, 2), RLeaky(beta=0.9, linear_features=2), num_steps=5, seed=0)
    >>> step = TrainingStep(net, SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2), optim.Adam(net, lr=0.1))
    >>> losses = [step(np.ones((1, 3), np.float32), [1]) for _ in range(20)]
    >>> losses[0] > losses[-1]
    True
    """

    def __init__(self, net: Network, loss_fn: Loss, optimizer: Optimizer, clip: float | None = None) -> None:
        self.net = check_net(net)
        self.loss_fn = check_loss(loss_fn)
        if getattr(optimizer, "net", None) is not net:
            raise ValueError(f"optimizer must be one of this net; {optimizer!r} is not")
        self.optimizer = optimizer
        self.clip = check_clip(clip)
        self._recorded: Hashable = None  # the batch and the settings that _graph is of
        self._graph: Any = None
        self._terms: list[tuple[Array, float]] = []  # of the loss
        self._output: Any = None  # that it read
        self._pass: tuple[Any, ...] = ()  # that the net went through

    def __call__(self, x: Array, y: npt.ArrayLike) -> float:
        """Take a step on a batch; returns the loss that it had.

        Parameters
        ----------
        x : as of Network.forward
        y : as of the loss

        Raises
        ------
        TypeError, ValueError
            if x or y is not such.
        guards.Diverged, a ValueError
            if the loss or a gradient is not finite; no weight is changed then.
        """
        loss, _ = self.gradients(x, y)
        if (fault := self.fault(loss)) is not None:
            raise guards.Diverged(fault)
        self.change()
        return loss

    def gradients(self, x: Array, y: npt.ArrayLike) -> tuple[float, Array]:
        """Fill the net's gradients for a batch; returns its loss, and the output of the net that the loss read.

        The output stays as it is until the next step.
        """
        net, loss_fn = self.net, self.loss_fn
        if not getattr(loss_fn, "labelled", False) or any(layer._start for layer in net.layers):
            self._recorded = self._graph = None
            output = output_of(net, loss_fn, x)
            loss, gradient = loss_fn(output, y)
            self._go_back(gradient)
            return loss, output
        kernels = net._kernels
        x = net._check(x, net.num_steps)
        classes = getattr(loss_fn, "num_classes", None) or math.prod(net.shapes[-1] or ())
        labels = check_labels("targets", y, x.shape[x.ndim in (3, 5)], classes)
        call = x.shape, net._settings, getattr(loss_fn, "_all_changes", 0)
        if call != self._recorded:
            self._recorded, self._graph = call, kernels.Graph(self._run)
        self._graph(x, kernels.from_host(labels))
        if net._tapes is not self._pass[-1]:
            net._pass = self._pass
        return sum(float(kernels.to_host(values).sum()) / divisor for values, divisor in self._terms), self._output

    def _run(self, x: Array, labels: Array) -> None:
        """Forward, loss and backward, without the host."""
        loss_fn: Any = self.loss_fn
        with self.net._kernels.team.together():  # over samples
            self._output = output_of(self.net, loss_fn, x)
            self._terms, gradient = loss_fn.terms(self._output, labels)
        self._go_back(gradient)
        self._pass = self.net._pass

    def _go_back(self, gradient: Array) -> None:
        """Fill the net's gradients, and look for what is not finite of them."""
        net = self.net
        go_back(net, self.loss_fn, gradient)
        net._kernels.last_not_finite(net.gradient_vector, net._bounds, self._place)

    @property
    def _place(self) -> Array:
        """Of a gradient that is not finite, see last_not_finite."""
        place: Array = self.net._work.zeros((1,), np.int64, "place")
        return place

    def fault(self, loss: float) -> str | None:
        """What is not finite of a loss and of the gradients that are there now; None: all is."""
        net = self.net
        if not math.isfinite(loss):
            return guards.loss_fault(net, loss)
        place = int(net._kernels.to_host(self._place)[0])
        return guards.gradient_fault(net, place) if place else None

    def change(self) -> None:
        """Change the weights by the gradients."""
        if self.clip is not None:
            optim.clip_grad_norm(self.net, self.clip)
        self.optimizer.step()


def check_loss(loss_fn: Any) -> Loss:
    """A loss that reads an output of a net, and gives one number."""
    if isinstance(loss_fn, type) or not callable(loss_fn) or getattr(loss_fn, "output", None) not in OUTPUTS:
        raise TypeError(f'loss_fn must be a loss whose output is "spk" or "mem"; got {loss_fn!r}')
    if getattr(loss_fn, "reduction", "mean") == "none":
        raise ValueError(f'loss_fn must give one number, by reduction="mean" or "sum"; got {loss_fn!r}')
    return loss_fn  # type: ignore[no-any-return]


def check_clip(clip: Any) -> float | None:
    """A largest norm of gradients, or None."""
    if clip is not None and not (isinstance(clip, int | float | np.number) and clip > 0):
        raise ValueError(f"clip must be a number above 0; got {clip!r}")
    return None if clip is None else float(clip)


def output_of(net: Network, loss_fn: Loss | None, x: Array) -> Array:
    """The output of the net that the loss reads."""
    spk, mem = net.forward(x)
    return mem if loss_fn is not None and loss_fn.output == "mem" else spk


def go_back(net: Network, loss_fn: Loss, gradient: Array | None) -> None:
    """Fill the net's gradients from that of the output that the loss reads."""
    if loss_fn.output == "mem":
        net.backward(dmem=gradient)
    else:
        net.backward(dspk=gradient)
