"""Training and evaluation of a net: epochs of steps forward, loss, backward, optimizer, and what they measured."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .datasets import Dataset, Loader, Samples
from .functional import accuracy_membrane, accuracy_rate
from .guards import Diverged, warn_of_still_layers
from .history import History, Tally
from .layers.base import Array, check_size
from .network import Network, check_net
from .optim import Schedule
from .regression import RegressionDataset
from .steps import ACCURACY, DeviceSteps, HostSteps, Metric, steps_of
from .training_step import Loss, Optimizer, check_clip, check_loss

DIVERGED = "the training diverged: try a lower lr, or a clip"
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
    on_nan: str = "stop",
    history: History | None = None,
    on_step: Callable[[History], object] | None = None,
    on_epoch: Callable[[int, History], object] | None = None,
) -> History:
    """Train a net; the same seeds give the same bits, on any number of threads, and stopped and gone on with or not.

    Parameters
    ----------
    net : Network
    train : Dataset or RegressionDataset, shuffled anew for each epoch, a last short batch dropped
        or Loader, which sees to that itself and goes on at its own epoch
    loss_fn : such as functional.mse_count_loss(); the output it reads decides how accuracy is told
    optimizer : such as optim.Adam(net)
    epochs : int                   passes over the training data, those of an earlier `history` among them
    validation : as train          evaluated after each epoch
    metrics : more to measure, such as {"error": error}: error(spk or mem, targets) is a mean over samples
    schedule : of the optimizer's learning rate, such as optim.StepLR(optimizer, 2); each epoch is a step of it
    clip : float > 0               the largest norm of all gradients together, as optim.clip_grad_norm
    batch_size, seed : int         of the shuffled batches of a data set; default 128 and 0
    device : "cpu" or "cuda"       move the net there first; None: train it where it is
    progress : bool                a bar on stderr; None: where that is a terminal
    on_nan : "stop", or "skip": leave out a step whose loss or gradients hold NaN or infinity; it then changes nothing
    history : of an earlier fit, to go on where that stopped, even amid an epoch, and to add to: to the same bits as
        without a stop, where net, optimizer, schedule and Dropout are as they were then (see checkpoint)
    on_step : called as on_step(history) after a step, on a GPU after some, where net, optimizer and history fit
        together, and a stop, by an exception, loses nothing; history.begun then is the epoch so far
    on_epoch : called as on_epoch(epoch, history) after each epoch, epoch counting from 1

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        if an argument is not such, or data, net, loss and optimizer do not fit together; nothing is changed then.
    guards.Diverged, a ValueError
        if a loss, a gradient, a weight or what the optimizer keeps is not finite, naming step and array.

    Warns, once a layer, of one that never fires in an epoch, or always.

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
    check_loss(loss_fn)
    if getattr(optimizer, "net", None) is not net:
        raise ValueError(f"optimizer must be one of this net; {optimizer!r} is not")
    check_size("epochs", epochs)
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ValueError(f"schedule must be one of this optimizer; {schedule!r} is not")
    check_clip(clip)
    if on_nan not in ("stop", "skip"):
        raise ValueError(f'on_nan must be "stop" or "skip"; got {on_nan!r}')
    for name, dataset in (("train", loader.dataset), ("validation", validation)):
        if dataset is not None:
            _check_dataset(name, dataset, net)
    measures = _measures(loader.dataset, loss_fn, metrics)
    if device not in (None, net.device):
        net.to(device)

    from tqdm import tqdm  # `import snnumba` need not wait for it

    history = History() if history is None else history
    if history.epochs or history.begun is not None:
        _check_history(history, epochs, len(loader))
        loader.epoch = history.epochs
    steps = steps_of(net, loader.dataset, loss_fn, measures, loader.batch_size, optimizer, clip, on_nan == "skip")
    if validation is not None:
        size = min(loader.batch_size, len(validation))
        validated = steps_of(net, validation, loss_fn, _measures(validation, loss_fn, metrics), size)
    for epoch in range(history.epochs + 1, epochs + 1):
        tally = history.begun = history.begun or Tally()
        bar = tqdm(
            total=len(loader),
            initial=len(tally.losses),
            desc=f"epoch {epoch}/{epochs}",
            unit="step",
            leave=False,
            disable=None if progress is None else not progress,
        )
        begun = time.perf_counter() - tally.seconds
        with bar:
            order = loader.order(loader.epoch)[: len(loader) * loader.batch_size]
            for several in steps.run(order, len(tally.losses)):
                for measured in several:
                    if measured.fault is not None and on_nan == "stop":
                        raise Diverged(f"epoch {epoch}, step {len(tally.losses) + 1}: {measured.fault}; {DIVERGED}")
                    tally.add(measured)
                    bar.update()
                    if measured.rates is not None:
                        bar.set_postfix_str(str(tally), refresh=False)
                tally.seconds = time.perf_counter() - begun
                if on_step is not None:
                    on_step(history)
        _check_finite(epoch, tally, net, optimizer)
        if schedule is not None:
            schedule.step()
        loader.epoch += 1
        tally.seconds = time.perf_counter() - begun
        history.end_epoch(tally)
        warn_of_still_layers(history, str(len(net.layers) - 1) if loss_fn.output == "mem" else None)
        if validation is not None:
            result = _evaluated(net, validation, validated)
            assert result.loss is not None
            history.add_validation(result.loss, result.accuracy, result.metrics)
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
        check_loss(loss_fn)
    _check_dataset("dataset", dataset, net)
    measures = _measures(dataset, loss_fn, metrics)
    size = min(check_size("batch_size", batch_size), len(dataset))
    return _evaluated(net, dataset, steps_of(net, dataset, loss_fn, measures, size))


def _evaluated(net: Network, dataset: Samples, steps: HostSteps | DeviceSteps) -> Evaluation:
    """The evaluation of a net over a data set by these steps."""
    tally = Tally()
    training = net.training
    net.eval()
    try:
        for several in steps.run(np.arange(len(dataset))):
            for measured in several:
                tally.add(measured)
    finally:
        net.train(training)
    mean_loss = None if steps.loss_fn is None else tally.mean_loss
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


def _check_history(history: History, epochs: int, steps: int) -> None:
    """Refuse to go on with a history of other batches, or of a run that has ended."""
    if history.epochs >= epochs:
        raise ValueError(f"epochs must be more than the {history.epochs} of the history; got {epochs}")
    if history.loss.size != history.epochs * steps:
        seen = f"{history.loss.size} steps in {history.epochs} epochs"
        raise ValueError(f"history must have {steps} steps an epoch, as the batches of train; got {seen}")
    if history.begun is not None and len(history.begun.losses) > steps:
        raise ValueError(f"history must have at most {steps} steps begun; got {len(history.begun.losses)}")


def _check_finite(epoch: int, tally: Tally, net: Network, optimizer: Optimizer) -> None:
    """Refuse to go on, and to have saved, what has diverged."""
    if tally.samples == 0:
        raise Diverged(f"epoch {epoch}: every step was left out; {DIVERGED}")
    for name, array in (net.state_dict() | optimizer.state_dict()).items():
        if not np.isfinite(array).all():
            raise Diverged(f"epoch {epoch}: {name} is not finite any more; {DIVERGED}")


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
