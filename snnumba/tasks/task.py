"""What the jobs of `snnumba train` share."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..datasets import Samples
from ..layers.base import Layer, check_size
from ..layers.spiking import Spiking
from ..memory import check_memory
from ..network import Network
from ..steps import Metric
from ..training_step import Loss

# What a step of training keeps, in numbers: of a parameter its gradient, averages and copies, of a neuron at each step
# its current and membrane, and their gradients. Peaks of memory were measured to be 7.7 and 2.6 to 3.9; sums of parts
# of samples are two more of a weight of spikes.
PER_PARAMETER, PER_NEURON = 10, 4
PER_STEP = 32  # bytes: two numbers of float32, and three of float64 as they are drawn


class Task:
    """A job: data, layers and loss, made from settings.

    options : the settings of its own, named as options of the command line, with their values where they are not given
    figures : what it measures, by name, each with its heading and format in a table; all but "accuracy" are metrics
    settings : those of its own and seed, batch_size and dtype; fit for JSON
    """

    options: ClassVar[dict[str, Any]]
    figures: ClassVar[dict[str, tuple[str, str]]]
    metrics: ClassVar[dict[str, Metric]] = {}

    train: Samples
    test: Samples
    loss_fn: Loss

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)

    def __getitem__(self, name: str) -> Any:
        """A setting."""
        if name not in self.settings:
            raise ValueError(f"the settings must have {name}; they have {', '.join(self.settings) or 'none'}")
        return self.settings[name]

    def layers(self) -> list[Layer]:
        """The layers of its net.

        Raises
        ------
        ValueError
            if the machine has no memory for them.
        """
        raise NotImplementedError

    def _check_samples(self) -> None:
        """Refuse to draw samples, a number at each step and perhaps another to follow, that do not fit into memory."""
        steps = check_size("samples", self["samples"]) * check_size("num_steps", self["num_steps"])
        check_memory("the samples", PER_STEP * steps, "--samples or --num-steps")

    def check_net(self, net: Network) -> None:
        """Refuse a net from a file if it does not fit into memory, with the steps and the batches of this task."""
        shapes = zip(net.layers, net.shapes[1:], strict=True)
        neurons = sum(math.prod(shape or ()) for layer, shape in shapes if isinstance(layer, Spiking))
        self._check_memory(net.vector.size, neurons)

    def _check_memory(self, parameters: int, neurons: int) -> None:
        """Refuse a net of so many parameters and neurons if it does not fit into memory."""
        states = neurons * check_size("num_steps", self["num_steps"]) * check_size("batch_size", self["batch_size"])
        size = np.dtype(self["dtype"]).itemsize * (PER_PARAMETER * parameters + PER_NEURON * states)
        check_memory("the net", size, "--hidden, --num-steps or --batch-size")

    def described(self, samples: Samples) -> str:
        """What a user is to know of a split of the data."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What there is to say about the choice of data."""
        return []

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        """How well a net does that got these figures on the test data: a label, and a line in plain words."""
        raise NotImplementedError
