"""Classes of images, from spike counts or membranes: part II of snnTorch's regression tutorials."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from .. import datasets
from .. import functional as SF
from ..datasets import Samples
from ..layers import Linear, RLeaky
from ..layers.base import Layer, check_size
from ..memory import default_memory
from ..streaming import StreamedDataset
from ..training_step import Loss
from .task import Task

# The losses by their names here: what makes one, and its options with the tutorial's values.
LOSSES: dict[str, tuple[Callable[..., Loss], dict[str, float]]] = {
    "count": (SF.mse_count_loss, {"correct_rate": 0.8, "incorrect_rate": 0.2}),
    "membrane": (SF.mse_membrane_loss, {"on_target": 1.05, "off_target": 0.2}),
}
MB = 10**6  # bytes, the unit of --memory
GET_MNIST = "`snnumba data mnist` downloads MNIST, `snnumba data mnist --from DIR` makes it from the four IDX files"


class Classification(Task):
    """Learn the classes of images by a squared error of counts or membranes.

    Source: https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_regression_2.html
    """

    options: ClassVar[dict[str, Any]] = {
        "data": None,
        "memory": None,
        "loss": "count",
        **{name: None for _, options in LOSSES.values() for name in options},  # they are for one loss each
        "beta": 0.9,
        "hidden": 128,
        "num_steps": 10,
        "epochs": 5,
        "batch_size": 128,
        "lr": 1e-3,
        "schedule": "none",
    }
    figures: ClassVar[dict[str, tuple[str, str]]] = {"accuracy": ("accuracy", ".2%")}
    train: datasets.Dataset
    test: datasets.Dataset

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        data = self["data"]
        self._chosen = data is None
        if data is None:
            data = "mnist" if datasets.MNIST.exists() else "digits"
        memory = self.settings.get("memory") or default_memory() // MB  # kept, since what is streamed is shuffled by it
        self.settings["memory"] = check_size("memory", memory)
        self.train, self.test = datasets.open_data(data, memory=memory * MB, dtype=self["dtype"])
        if data not in ("mnist", "digits"):
            data = str(Path(data).absolute())  # so that it is found from any folder
        self.settings["data"] = data
        if "loss" in self.settings:
            self.loss_fn = self._loss(self["loss"])

    def layers(self) -> list[Layer]:
        inputs, hidden, classes = math.prod(self.train.sample_shape), self["hidden"], self.train.num_classes
        self._check_memory((inputs + 1 + hidden + 1 + classes) * hidden + (classes + 2) * classes, hidden + classes)
        return [
            Linear(inputs, hidden),
            RLeaky(beta=self["beta"], linear_features=hidden),
            Linear(hidden, classes),
            RLeaky(beta=self["beta"], linear_features=classes),
        ]

    def described(self, samples: Samples) -> str:
        assert isinstance(samples, datasets.Dataset)
        shape = "x".join(map(str, samples.image_shape))
        return f"{samples.name}: {len(samples)} images of {shape} pixels in {samples.num_classes} classes"

    def notes(self) -> list[str]:
        notes = []
        if self._chosen:
            mnist = self["data"] == "mnist"
            there = f"{datasets.MNIST} is there" if mnist else f"there is no {datasets.MNIST}; {GET_MNIST}"
            notes.append(f"no --data given, and {there}")
        if isinstance(self.train, StreamedDataset) and isinstance(self.test, StreamedDataset):
            memory = max(self.train.memory, self.test.memory) / MB
            blocks = f"in blocks of {self.train.block} images, at most {memory:,.1f} MB of memory"
            notes.append(f"streamed from {self.train.path} {blocks}")
        return notes

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        return "accuracy", f"{figures['accuracy']:.2%} of the test images"

    def _loss(self, name: Any) -> Loss:
        """The loss of this name here."""
        if not isinstance(name, str) or name not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {name!r}")
        make, options = LOSSES[name]
        return make(**{option: self[option] for option in options})
