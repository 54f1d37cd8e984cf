"""What the jobs of `snnumba train` share."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..datasets import Samples
from ..layers.base import Layer
from ..training import Loss, Metric


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
        """The layers of its net."""
        raise NotImplementedError

    def described(self, samples: Samples) -> str:
        """What a user is to know of a split of the data."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What there is to say about the choice of data."""
        return []

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        """How well a net does that got these figures on the test data: a label, and a line in plain words."""
        raise NotImplementedError
