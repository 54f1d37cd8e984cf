"""Training and evaluation of a net: epochs of steps forward, loss, backward, optimizer, and what they measured."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .datasets import Dataset, Loader, Samples
from .functional import accuracy_membrane, accuracy_rate
from .layers.base import Array, check_size
from .network import Network, check_net
from .optim import Schedule
from .regression import RegressionDataset
from .steps import ACCURACY, DeviceSteps, HostSteps, Loss, Measured, Metric, Optimizer, steps_of

ACCURACIES = {"spk": accuracy_rate, "mem": accuracy_membrane}  # by the output that the loss reads


@dataclass(frozen=True)
class Evaluation:
    """How a net did on a data set; accuracy and rates lie in [0, 1].

    accuracy : share of the samples it was right on; None where they have no labels
    loss : mean over the samples; None where no loss was asked for
    rates : of each spiking layer, the share of neurons and steps that spiked, named as by Network.firing_rates
    samples : how many there were
    metrics : of each metric that was asked for, the mean over the samples
    """

    accuracy: float | None
    loss: float | None
    rates: dict[str, float]
    samples: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class History:
    """What a training run measured; accuracies and rates lie in [0, 1].

    loss : (steps,) float64, of every training step
    accuracy : of each epoch, over its training samples, each as the net was when it saw them; empty without labels
    validation_loss, validation_accuracy : after each epoch; empty where nothing was held out
    metrics, validation_metrics : the same of each metric that was asked for
    rates : of each spiking layer, named as by Network.firing_rates; of each epoch, from every eighth training step
    seconds : of training in each epoch, validation not counted

    >>> history = History(loss=np.array([0.3, 0.1, 0.1, 0.1]), seconds=[1.0, 1.0])
    >>> history.epochs, history.epoch_loss
    (2, [0.2, 0.1])
    """

    loss: Array = field(default_factory=lambda: np.empty(0))
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    validation_metrics: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return len(self.seconds)

    @property
    def epoch_loss(self) -> list[float]:
        """The mean loss over the steps of each epoch."""
        return [float(steps.mean()) for steps in np.split(self.loss, self.epochs)] if self.epochs else []


class _Tally:
    """Sums over batches, each weighing as many samples as it has."""

    def __init__(self) -> None:
        self.samples = 0
        self._loss = 0.0
        self._sums: dict[str, float] = {}
        self._rated = 0
        self._rates: dict[str, float] = {}

    def add(self, measured: Measured) -> None:
        self.samples += measured.samples
        self._loss += measured.loss * measured.samples
        _accumulate(self._sums, measured.measures, measured.samples)
        if measured.rates is not None:
            self._rated += measured.samples
            _accumulate(self._rates, measured.rates, measured.samples)

    @property
    def loss(self) -> float:
        return self._loss / self.samples

    @property
    def accuracy(self) -> float | None:
        right = self._sums.get(ACCURACY)
        return None if right is None else round(right) / self.samples  # right is a count but for rounding

    @property
    def metrics(self) -> dict[str, float]:
        return {name: total / self.samples for name, total in self._sums.items() if name != ACCURACY}

    @property
    def rates(self) -> dict[str, float]:
        return {layer: total / self._rated for layer, total in self._rates.items()}

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        return f"loss {self.loss:.4f}{accuracy}" + "".join(f", {k} {value:.4g}" for k, value in self.metrics.items())


def _accumulate(sums: dict[str, float], values: dict[str, float], weight: int) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value * weight


def _append(lists: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)


def fit(
    net: Network,
    train: Samples | Loader,
    loss_fn: Loss,
    optimizer: Optimizer,
    epochs: int = 5,
    validation: Samples | None = None,
    *,
    metrics: Mapping[str, Metric] | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[int, History], object] | None = None,
) -> History:
    """Train a net; the same seeds give the same bits, on any number of threads.

    Parameters
    ----------
    net : Network
    train : Dataset or RegressionDataset, shuffled anew for each epoch, a last short batch dropped
        or Loader, which sees to that itself and goes on at its own epoch
    loss_fn : such as functional.mse_count_loss(); the output it reads decides how accuracy is told
    optimizer : such as optim.Adam(net)
    epochs : int                   passes over the training data
    validation : as train          evaluated after each epoch
    metrics : more to measure, such as {"error": error}: error(spk or mem, targets) is a mean over samples
    schedule : of the optimizer's learning rate, such as optim.StepLR(optimizer, 2); each epoch is a step of it
    clip : float > 0               the largest norm of all gradients together, as optim.clip_grad_norm
    batch_size, seed : int         of the shuffled batches of a data set; default 128 and 0
    device : "cpu" or "cuda"       move the net there first; None: train it where it is
    progress : bool                a bar on stderr; None: where that is a terminal
    on_epoch : called as on_epoch(epoch, history) after each epoch, epoch counting from 1

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        if an argument is not such, or data, net, loss and optimizer do not fit together; nothing is changed then.

    >>> import snnumba as snn
    >>> from snnumba import functional as SF, optim
    >>> net = snn.Network(snn.Linear(4, 2), snn.RLeaky(beta=0.9, linear_features=2), num_steps=5, seed=0)
    >>> images, labels = np.zeros((6, 2, 2), np.uint8), np.arange(6) % 2
    >>> history = fit(net, snn.datasets.Dataset(images, labels), SF.mse_count_loss(), optim.Adam(net), 3, batch_size=2)
    >>> history.epochs, history.loss.shape
    (3, (9,))
    """
    loader = _loader(train, batch_size, seed)
    check_net(net)
    _check_loss(loss_fn)
    if getattr(optimizer, "net", None) is not net:
        raise ValueError(f"optimizer must be one of this net; {optimizer!r} is not")
    check_size("epochs", epochs)
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ValueError(f"schedule must be one of this optimizer; {schedule!r} is not")
    if clip is not None and not (isinstance(clip, int | float | np.number) and clip > 0):
        raise ValueError(f"clip must be a number above 0; got {clip!r}")
    for name, dataset in (("train", loader.dataset), ("validation", validation)):
        if dataset is not None:
            _check_dataset(name, dataset, net)
    measures = _measures(loader.dataset, loss_fn, metrics)
    if device not in (None, net.device):
        net.to(device)

    history = History()
    steps = steps_of(net, loader.dataset, loss_fn, measures, loader.batch_size, optimizer, clip)
    if validation is not None:
        size = min(loader.batch_size, len(validation))
        validated = steps_of(net, validation, loss_fn, _measures(validation, loss_fn, metrics), size)
    for epoch in range(1, epochs + 1):
        losses = np.empty(len(loader))
        tally = _Tally()
        bar = tqdm(
            total=len(loader),
            desc=f"epoch {epoch}/{epochs}",
            unit="step",
            leave=False,
            disable=None if progress is None else not progress,
        )
        begun = time.perf_counter()
        with bar:
            order = loader.order(loader.epoch)[: len(loader) * loader.batch_size]
            for step, measured in enumerate(steps.run(order)):
                losses[step] = measured.loss
                tally.add(measured)
                bar.update()
                if measured.rates is not None:
                    bar.set_postfix_str(str(tally), refresh=False)
        _check_finite(epoch, losses, net, optimizer)
        if schedule is not None:
            schedule.step()
        loader.epoch += 1
        history.seconds.append(time.perf_counter() - begun)
        history.loss = np.concatenate([history.loss, losses])
        if tally.accuracy is not None:
            history.accuracy.append(tally.accuracy)
        _append(history.metrics, tally.metrics)
        _append(history.rates, tally.rates)
        if validation is not None:
            result = _evaluated(net, validation, validated)
            assert result.loss is not None
            history.validation_loss.append(result.loss)
            if result.accuracy is not None:
                history.validation_accuracy.append(result.accuracy)
            _append(history.validation_metrics, result.metrics)
        if on_epoch is not None:
            on_epoch(epoch, history)
    return history


def evaluate(
    net: Network,
    dataset: Samples,
    loss_fn: Loss | None = None,
    batch_size: int = 128,
    *,
    metrics: Mapping[str, Metric] | None = None,
) -> Evaluation:
    """Run a net over every sample of a data set, the last short batch included, as it does when it is not trained.

    Parameters
    ----------
    net : Network
    dataset : Dataset or RegressionDataset
    loss_fn : the loss to report; None: none, and accuracy as accuracy_rate tells it, metrics of the spikes
    batch_size : int                 samples at a time; accuracy does not depend on it
    metrics : more to measure, as in fit

    Raises
    ------
    TypeError, ValueError
        if an argument is not such, or data, net and loss do not fit together.

    >>> import snnumba as snn
    >>> net = snn.Network(snn.Linear(4, 2), snn.RLeaky(beta=0.9, linear_features=2), num_steps=5, seed=0)
    >>> result = evaluate(net, snn.datasets.Dataset(np.zeros((5, 2, 2), np.uint8), np.arange(5) % 2), batch_size=2)
    >>> result.samples, result.accuracy, result.loss
    (5, 0.6, None)
    """
    check_net(net)
    if loss_fn is not None:
        _check_loss(loss_fn)
    _check_dataset("dataset", dataset, net)
    measures = _measures(dataset, loss_fn, metrics)
    size = min(check_size("batch_size", batch_size), len(dataset))
    return _evaluated(net, dataset, steps_of(net, dataset, loss_fn, measures, size))


def _evaluated(net: Network, dataset: Samples, steps: HostSteps | DeviceSteps) -> Evaluation:
    """The evaluation of a net over a data set by these steps."""
    tally = _Tally()
    training = net.training
    net.eval()
    try:
        for measured in steps.run(np.arange(len(dataset))):
            tally.add(measured)
    finally:
        net.train(training)
    mean_loss = None if steps.loss_fn is None else tally.loss
    return Evaluation(tally.accuracy, mean_loss, tally.rates, tally.samples, tally.metrics)


def _loader(train: Any, batch_size: int | None, seed: int | None) -> Loader:
    """The batches to train on."""
    if isinstance(train, Loader):
        for name, given, its in (("batch_size", batch_size, train.batch_size), ("seed", seed, train.seed)):
            if given is not None:
                raise ValueError(f"{name} is the Loader's, {its}, and cannot be given to fit as well; got {given!r}")
        return train
    if not isinstance(train, Dataset | RegressionDataset):
        raise TypeError(f"train must be a Dataset, a RegressionDataset or a Loader; got {type(train).__name__}")
    return Loader(train, 128 if batch_size is None else batch_size, seed=0 if seed is None else seed)


def _check_finite(epoch: int, losses: npt.NDArray[np.float64], net: Network, optimizer: Optimizer) -> None:
    """Refuse to go on, and to have saved, what has diverged."""
    arrays = {"the loss": losses, "a parameter": net._kernels.to_host(net.vector)} | optimizer.state_dict()
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"epoch {epoch}: the training diverged, {name} is not finite any more; try a lower lr")


def _measures(dataset: Samples, loss_fn: Loss | None, metrics: Any) -> dict[str, Metric]:
    """What is to be measured on each batch, by its name."""
    if metrics is not None and not (isinstance(metrics, Mapping) and all(map(callable, metrics.values()))):
        raise TypeError(f"metrics must be functions by their names; got {metrics!r}")
    measures = dict(metrics or {})
    if ACCURACY in measures:
        raise ValueError(f"metrics must have names of their own; {ACCURACY!r} is that of the labels'")
    if isinstance(dataset, Dataset):
        measures[ACCURACY] = partial(_accuracy, loss_fn)
    return measures


def _accuracy(loss_fn: Loss | None, output: Array, y: Array) -> float:
    """The share of samples that the output a loss reads gets right, of a population code where it is for one."""
    metric = ACCURACIES["spk" if loss_fn is None else loss_fn.output]
    num_classes = getattr(loss_fn, "num_classes", None)
    return metric(output, y, num_classes is not None, num_classes)


def _check_loss(loss_fn: Any) -> None:
    if isinstance(loss_fn, type) or not callable(loss_fn) or getattr(loss_fn, "output", None) not in ACCURACIES:
        raise TypeError(f'loss_fn must be a loss whose output is "spk" or "mem"; got {loss_fn!r}')
    if getattr(loss_fn, "reduction", "mean") == "none":
        raise ValueError(f'loss_fn must give one number, by reduction="mean" or "sum"; got {loss_fn!r}')


def _check_dataset(name: str, dataset: Any, net: Network) -> None:
    """Refuse data that the net cannot take."""
    if not isinstance(dataset, Dataset | RegressionDataset):
        raise TypeError(f"{name} must be a Dataset or a RegressionDataset; got {type(dataset).__name__}")
    shape = net.layers[0].in_shape
    if shape is not None and dataset.sample_shape != shape:
        raise ValueError(f"{name} must have samples of the shape {shape}, the net's input; got {dataset.sample_shape}")
    outputs = math.prod(net.shapes_for(dataset.sample_shape)[-1] or ())
    if dataset.dtype != net.dtype:
        raise ValueError(f"{name} must give {net.dtype}, the net's dtype; got {dataset.dtype}")
    if isinstance(dataset, Dataset):
        if dataset.num_classes > outputs:
            raise ValueError(
                f"{name} must have at most {outputs} classes, the net's outputs; got {dataset.num_classes}"
            )
        return
    targets = dataset.targets.shape[-1]
    if targets != outputs:
        raise ValueError(f"{name} must have {outputs} targets, one for each output of the net; got {targets}")
    if dataset.num_steps not in (None, net.num_steps):
        raise ValueError(f"{name} must have {net.num_steps} steps, as the net; got {dataset.num_steps}")
