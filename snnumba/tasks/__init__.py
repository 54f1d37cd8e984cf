"""The jobs of `snnumba train`: each has its data, net, loss and what it measures in a file of its own."""

from .classification import Classification
from .spike_time import SpikeTime
from .task import Task
from .trajectory import Trajectory

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "trajectory": Trajectory,
    "spike-time": SpikeTime,
}

__all__ = ["TASKS", "Classification", "SpikeTime", "Task", "Trajectory"]
