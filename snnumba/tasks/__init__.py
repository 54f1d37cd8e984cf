"""The jobs of `snnumba train`: each has its data, net, loss and what it measures in a file of its own."""

from .classification import Classification
from .task import Task
from .trajectory import Trajectory

TASKS: dict[str, type[Task]] = {"classification": Classification, "trajectory": Trajectory}

__all__ = ["TASKS", "Classification", "Task", "Trajectory"]
