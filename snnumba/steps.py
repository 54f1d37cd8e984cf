"""The steps of an epoch, of training or of evaluation, and what is measured on each batch.

HostSteps gather batches on the host, and measure each as it comes: for any net, data and metrics. DeviceSteps are for
labelled images and a net on a GPU. The images lie there, as bytes where they are bytes; a step, from its batch to the
change of the weights, is one CUDA graph that is launched again and again (kernels/cuda/steps.py), and what it measured
is read some steps later, all at once. Both give the steps in lists, at whose ends the net, the optimizer and what was
measured fit together.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import guards, optim
from .datasets import Dataset, Samples
from .functional.readings import Counts
from .layers.base import Array
from .layers.spiking import Spiking
from .network import Network
from .training_step import Loss, Optimizer, TrainingStep, go_back, output_of

WATCH = 8  # steps from one look at firing rates, and at what the bar tells, to the next: each would cost 3% of a step
READ = 64  # steps on a device from one reading of what they measured to the next
ACCURACY = "accuracy"  # what is measured where there are labels, whether metrics are asked for or not

Metric = Callable[[Array, Array], float]  # of the output that the loss reads and the targets: a mean over the samples


class Measured(NamedTuple):
    """What was measured on a batch."""

    samples: int
    loss: float  # 0 where there is no loss
    measures: dict[str, float]  # by name: means over the samples
    rates: dict[str, float] | None  # of spiking layers, by index; None at a step that nobody looks at them
    fault: str | None = None  # what was NaN or infinite: on the host, the net is then as it was before the step


class HostSteps:
    """Steps whose batches are gathered on the host; without an optimizer, they only evaluate."""

    def __init__(
        self,
        net: Network,
        dataset: Samples,
        loss_fn: Loss | None,
        measures: dict[str, Metric],
        batch_size: int,
        optimizer: Optimizer | None = None,
        clip: float | None = None,
    ) -> None:
        self.net, self.dataset, self.loss_fn, self.measures = net, dataset, loss_fn, measures
        self.batch_size = batch_size
        self._training = None
        if optimizer is not None and loss_fn is not None:
            self._training = TrainingStep(net, loss_fn, optimizer, clip)
        x, y = (np.empty(shape, dtype) for shape, dtype in dataset.layout(batch_size))
        self._batch = x, y

    def run(self, order: Array, begin: int = 0) -> Iterator[list[Measured]]:
        """A step for each batch of samples in this order (N,) int64, but for those that were done before."""
        watch = 1 if self._training is None else WATCH
        with closing(self.dataset.batches(order[begin * self.batch_size :], self.batch_size, self._batch)) as batches:
            for step, (x, y) in enumerate(batches, begin):
                loss, measured, fault = self._step(x, y)
                rates = self.net.firing_rates() if step % watch == 0 else None
                samples = min(self.batch_size, len(order) - step * self.batch_size)
                yield [Measured(samples, loss, measured, rates, fault)]

    def _step(self, x: Array, y: Array) -> tuple[float, dict[str, float], str | None]:
        """The loss of a batch, what is measured on it, and what is not finite; what this holds of work arrays is let go
        of at its end."""
        if self._training is not None:
            loss, output = self._training.gradients(x, y)
        else:
            output = output_of(self.net, self.loss_fn, x)
            loss = 0.0 if self.loss_fn is None else self.loss_fn(output, y)[0]
        measured = {name: measure(output, y) for name, measure in self.measures.items()}
        fault = None if self._training is None else self._training.fault(loss)
        if self._training is not None and fault is None:
            self._training.change()
        return loss, measured, fault


class DeviceSteps:
    """Steps of a net on a GPU, on labelled images that lie there; without an optimizer, they only evaluate.

    Only where `possible`. What they measure is the loss and the accuracy.
    """

    def __init__(
        self,
        net: Network,
        dataset: Dataset,
        loss_fn: Any,
        batch_size: int,
        optimizer: optim.Optimizer | None = None,
        clip: float | None = None,
    ) -> None:
        self.net, self.loss_fn, self.batch_size, self.optimizer, self.clip = net, loss_fn, batch_size, optimizer, clip
        kernels = self._kernels = net._kernels
        self._spiking = {str(k): layer for k, layer in enumerate(net.layers) if isinstance(layer, Spiking)}
        self._reading = Counts(getattr(loss_fn, "num_classes", None))
        self._work = kernels.Workspace()
        self._sample_shape = dataset.sample_shape
        self._images, self._labels = map(kernels.from_host, dataset.stored)
        self._normal = dataset.normal
        steps = -(-len(dataset) // batch_size)
        self._k = kernels.from_host(np.zeros(1, np.int64))
        self._order = kernels.from_host(np.zeros(len(dataset), np.int64))
        factors = len(optimizer._factors(1)) if optimizer is not None else 1
        self._table = kernels.from_host(np.zeros((steps, factors), net.dtype))
        self._factors = kernels.from_host(np.zeros(factors, net.dtype))
        self._norm = kernels.from_host(np.zeros(1, np.float64))
        self._place = kernels.from_host(np.zeros(1, np.int64))  # of a gradient that is not finite
        self._counts = kernels.from_host(np.zeros((steps, 2 + len(self._spiking)), np.int64))  # right, fired, place
        self._sums: Any = None  # (steps, terms of the loss)
        self._divisors: dict[int, list[float]] = {}  # of these terms, by the size of a batch
        self._batches: dict[int, tuple[Array, Array, Array]] = {}  # indices, x and y, by the same
        self._graphs: dict[tuple[int, bool], Callable[[], None]] = {}

    @staticmethod
    def possible(net: Network, dataset: Any, loss_fn: Any, measures: dict[str, Metric], optimizer: Any = None) -> bool:
        """Whether nothing but the order of the samples has to come from the host."""
        return (
            net.device == "cuda"
            and isinstance(dataset, Dataset)
            and not dataset.streamed
            and (loss_fn is None or getattr(loss_fn, "labelled", False))
            and measures.keys() == {ACCURACY}
            and (optimizer is None or isinstance(optimizer, optim.Optimizer))
            and 2 * sum(x.nbytes for x in dataset.stored) < net._kernels.free_memory()
        )

    def run(self, order: Array, begin: int = 0) -> Iterator[list[Measured]]:
        """A step for each batch of samples in this order (N,) int64, but for those that were done before."""
        kernels, optimizer = self._kernels, self.optimizer
        kernels.write(order, self._order[: len(order)])
        kernels.write(np.array([begin]), self._k)
        sizes = [min(self.batch_size, len(order) - begin) for begin in range(0, len(order), self.batch_size)]
        if optimizer is not None and begin < len(sizes):
            optimizer._follow()
            rows = [optimizer._factors(optimizer.steps + 1 + step) for step in range(len(sizes) - begin)]
            kernels.write(np.array(rows, self.net.dtype), self._table[begin : len(sizes)])
        watch = 1 if optimizer is None else WATCH
        for first in range(begin, len(sizes), READ):
            steps = range(first, min(first + READ, len(sizes)))
            for step in steps:
                self._graph(sizes[step], step % watch == 0)()
            if optimizer is not None:
                optimizer.steps += len(steps)
            sums, counts = (kernels.to_host(x[steps.start : steps.stop]) for x in (self._sums, self._counts))
            several = []
            for step, terms, (right, *fired, place) in zip(steps, sums.tolist(), counts.tolist(), strict=True):
                size = sizes[step]
                loss = sum(x / divisor for x, divisor in zip(terms, self._divisors[size], strict=False))
                rates = self._rates(size, fired) if step % watch == 0 else None
                several.append(Measured(size, loss, {ACCURACY: right / size}, rates, self._fault(loss, place)))
            yield several

    def _fault(self, loss: float, place: int) -> str | None:
        """What was not finite at a step, some steps ago."""
        if self.optimizer is None or (place == 0 and math.isfinite(loss)):
            return None
        return guards.gradient_fault(self.net, place, seen=False) if place else f"the loss is {loss}"

    def _rates(self, samples: int, fired: list[int]) -> dict[str, float]:
        """Firing rates, of how many spikes each spiking layer had."""
        rates = {}
        for (name, layer), count in zip(self._spiking.items(), fired, strict=True):
            steps, _, neurons = layer._tape["mem"].shape
            rates[name] = count / (layer._tape.get("steps", steps) * samples * neurons)
        return rates

    def _graph(self, size: int, watched: bool) -> Callable[[], None]:
        """A step of a batch of this size."""
        kernels, key = self._kernels, (size, watched)
        if size not in self._batches:
            shapes = ((size,), np.int64), ((size, *self._sample_shape), self.net.dtype), ((size,), np.int64)
            self._batches[size] = tuple(kernels.from_host(np.zeros(*shape)) for shape in shapes)
        if key not in self._graphs:
            self._graphs[key] = kernels.Graph(partial(self._step, size, watched))
        return self._graphs[key]

    def _step(self, size: int, watched: bool) -> None:
        """The launches of a step."""
        kernels, net, k = self._kernels, self.net, self._k
        picked, x, y = self._batches[size]
        kernels.begin_step(k, self._order, self.batch_size, picked, self._table, self._factors)
        kernels.gather(self._images, self._labels, picked, *self._normal, x.reshape(size, math.prod(x.shape[1:])), y)
        output = output_of(net, self.loss_fn, x)
        terms, gradient = ([], None) if self.loss_fn is None else self.loss_fn.terms(output, y)
        if self._sums is None:
            self._sums = kernels.from_host(np.zeros((len(self._counts), max(1, len(terms))), net.dtype))
        self._divisors[size] = [divisor for _, divisor in terms]
        for column, (values, _) in enumerate(terms):
            kernels.record(values, k, column, self._sums)
        kernels.count_right(self._reading(output, self._work)[0], y, k, 0, self._counts)
        if watched:
            for column, layer in enumerate(self._spiking.values(), 1):
                kernels.record(layer._counts(), k, column, self._counts)
        if self.optimizer is not None:
            go_back(net, self.loss_fn, gradient)
            kernels.last_not_finite(net.gradient_vector, net._bounds, self._place)
            kernels.record(self._place, k, 1 + len(self._spiking), self._counts)
            if self.clip is not None:
                kernels.clip_norm(net.gradient_vector, self.clip, self._norm)
            self.optimizer._update(self._factors)
        kernels.end_step(k)


def steps_of(
    net: Network,
    dataset: Samples,
    loss_fn: Loss | None,
    measures: dict[str, Metric],
    batch_size: int,
    optimizer: Optimizer | None = None,
    clip: float | None = None,
    skip: bool = False,
) -> HostSteps | DeviceSteps:
    """Steps on the device that a net is on, where that is possible and none are to be skipped, else on the host."""
    if not skip and DeviceSteps.possible(net, dataset, loss_fn, measures, optimizer):
        assert isinstance(dataset, Dataset)
        assert optimizer is None or isinstance(optimizer, optim.Optimizer)
        return DeviceSteps(net, dataset, loss_fn, batch_size, optimizer, clip)
    return HostSteps(net, dataset, loss_fn, measures, batch_size, optimizer, clip)
