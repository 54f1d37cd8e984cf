"""What a training run measured: of the epochs that ended, and of one that was stopped before its end."""

import math
from dataclasses import dataclass, field

import numpy as np

from .layers.base import Array
from .steps import ACCURACY, Measured


@dataclass
class Tally:
    """A pass over samples as far as it has come: sums over batches, each weighing as many samples as it has.

    losses : of each step; nan where it was left out, for what was not finite
    samples : how many there were in the others
    loss, measures : sums over them
    watched, fired : how many there were where firing rates were looked at, and the sums of the rates of each layer
    seconds : of training
    """

    losses: list[float] = field(default_factory=list)
    samples: int = 0
    loss: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)
    watched: int = 0
    fired: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, measured: Measured) -> None:
        """Add a step."""
        if measured.rates is not None:
            self.watched += measured.samples
            _accumulate(self.fired, measured.rates, measured.samples)
        if measured.fault is not None:
            self.losses.append(math.nan)
            return
        self.losses.append(measured.loss)
        self.samples += measured.samples
        self.loss += measured.loss * measured.samples
        _accumulate(self.measures, measured.measures, measured.samples)

    @property
    def mean_loss(self) -> float:
        """Over the samples; nan where there are none."""
        return self.loss / self.samples if self.samples else math.nan

    @property
    def accuracy(self) -> float | None:
        """The share of the samples that were right; None where they have no labels."""
        right = self.measures.get(ACCURACY)
        return None if right is None else round(right) / self.samples  # right is a count but for rounding

    @property
    def metrics(self) -> dict[str, float]:
        """The means of what else was measured."""
        return {name: total / self.samples for name, total in self.measures.items() if name != ACCURACY}

    @property
    def rates(self) -> dict[str, float]:
        """Firing rates of the layers."""
        return {layer: total / self.watched for layer, total in self.fired.items()}

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        metrics = "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        return f"loss {self.mean_loss:.4f}{accuracy}{metrics}"


@dataclass
class History:
    """What a training run measured; accuracies and rates lie in [0, 1].

    loss : (steps,) float64, of every training step of the epochs that ended; nan where fit left a step out
    accuracy : of each epoch, over its training samples, each as the net was when it saw them; empty without labels
    validation_loss, validation_accuracy : after each epoch; empty where nothing was held out
    metrics, validation_metrics : the same of each metric that was asked for
    rates : of each spiking layer, named as by Network.firing_rates; of each epoch, from every eighth training step
    seconds : of training in each epoch, validation not counted
    begun : an epoch that has not ended, which fit goes on with; None between epochs

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
    begun: Tally | None = None

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return len(self.seconds)

    @property
    def epoch_loss(self) -> list[float]:
        """The mean loss over the steps of each epoch, but for those left out."""
        epochs = np.split(self.loss, self.epochs) if self.epochs else []
        return [float(losses[~np.isnan(losses)].mean()) for losses in epochs]

    @property
    def skipped(self) -> int:
        """How many steps were left out."""
        return int(np.isnan(self.loss).sum())

    @property
    def place(self) -> str:
        """How far the training has come, in words."""
        if self.begun is not None and self.begun.losses:
            return f"in epoch {self.epochs + 1}, after step {len(self.begun.losses)}"
        return f"after epoch {self.epochs}" if self.epochs else "before training"

    def end_epoch(self, tally: Tally) -> None:
        """Add an epoch that has ended."""
        self.begun = None
        self.loss = np.concatenate([self.loss, tally.losses])
        if tally.accuracy is not None:
            self.accuracy.append(tally.accuracy)
        _append(self.metrics, tally.metrics)
        _append(self.rates, tally.rates)
        self.seconds.append(tally.seconds)

    def add_validation(self, loss: float, accuracy: float | None, metrics: dict[str, float]) -> None:
        """Add how the net did on what was held out."""
        self.validation_loss.append(loss)
        if accuracy is not None:
            self.validation_accuracy.append(accuracy)
        _append(self.validation_metrics, metrics)


def _accumulate(sums: dict[str, float], values: dict[str, float], weight: int) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value * weight


def _append(lists: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)
