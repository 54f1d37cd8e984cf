"""A spike at the right time: part III of snnTorch's regression tutorials, on spiking LSTM cells.

A pulse of some height v comes at the first step, and nothing after it; the higher it is, the sooner a spike is to
answer. So the cells have to remember how high it was, and to count. f is the step of the answer's first spike:

    (1) x[0] = v,   x[t] = 0 for t > 0,    v drawn from U(0, 1) for each sample
    (2) f = round(first + (last - first) (1 - v)),    first = floor(T/10), last = T - 2 - floor(T/10)

A neuron that is silent is taken to fire at T - 1, which nothing asks for. Source of the cells and of learning times
with them: Henkes et al. 2022, arXiv:2210.03515.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import functional as SF
from ..datasets import Samples
from ..functional.readings import FirstSpikes
from ..kernels.cpu import Workspace
from ..layers import SLSTM, Leaky, Linear
from ..layers.base import Array, Layer, check_seed, check_size
from ..regression import RegressionDataset
from ..steps import Metric
from .task import Task

LEAST_STEPS = 3  # for more than one step to answer at
TESTS = 256  # samples to test


def generate(
    seed: int = 0, num_train: int = 1024, num_test: int = TESTS, num_steps: int = 20, dtype: npt.DTypeLike = "float32"
) -> tuple[RegressionDataset, RegressionDataset]:
    """Draw pulses and the steps at which spikes are to answer, eqs. (1) and (2): to train with, and to test.

    Parameters
    ----------
    seed : the same seed gives the same samples; a split does not depend on the size of the other
    num_train, num_test : samples in each
    num_steps : T, at least 3
    dtype : "float32" or "float64", of the batches

    Raises
    ------
    ValueError
        if an argument is not such.

    >>> train, test = generate(num_train=100, num_test=2, num_steps=20)
    >>> train
    RegressionDataset(spike times (synthetic): 100 samples, 20 steps of 1, targets 1)
    >>> float(train.targets.min()), float(train.targets.max())
    (2.0, 16.0)
    """
    seed = check_seed(seed) or 0
    first, last = answers(num_steps)
    splits = []
    for split, (name, number) in enumerate({"num_train": num_train, "num_test": num_test}.items()):
        heights = np.random.default_rng([seed, split]).random((check_size(name, number), 1))
        x = np.zeros((num_steps, *heights.shape))
        x[0] = heights  # (1)
        times = np.rint(first + (last - first) * (1 - heights))  # (2)
        splits.append(RegressionDataset(x, times, name="spike times (synthetic)", dtype=dtype))
    return splits[0], splits[1]


def answers(num_steps: int) -> tuple[int, int]:
    """first and last of eq. (2)."""
    if check_size("num_steps", num_steps) < LEAST_STEPS:
        raise ValueError(f"num_steps must be at least {LEAST_STEPS}; got {num_steps}")
    return num_steps // 10, num_steps - 2 - num_steps // 10


def layers(hidden: int = 128) -> list[Layer]:
    """Spiking LSTM cells, and a neuron that their spikes charge. Its decay is learnable, and it is not reset.

    >>> from snnumba import Network
    >>> net = Network(*layers(hidden=8), num_steps=20, seed=0)
    >>> spk, mem = net.forward(np.ones((20, 2, 1), np.float32))
    >>> spk.shape
    (20, 2, 1)
    """
    return [
        SLSTM(1, hidden, threshold=0.1),  # the membrane of a cell lies in (-1, 1), at first near 0
        Linear(hidden, 1),
        Leaky(beta=0.9, learn_beta=True, reset_mechanism="none"),  # only the first spike counts
    ]


def on_time(spk: Array, times: Array) -> float:
    """The share of outputs that spike for the first time at their step.

    Parameters
    ----------
    spk : (T, B, K) float
    times : (B, K) float           steps

    >>> spk = np.zeros((10, 2, 1)); spk[3:, 0] = 1
    >>> on_time(spk, np.array([[3.0], [3.0]])), steps_off(spk, np.array([[3.0], [3.0]]))    # 9 for one that is silent
    (0.5, 3.0)
    """
    return 1 - float(np.count_nonzero(_off(spk, times))) / times.size


def steps_off(spk: Array, times: Array) -> float:
    """The mean of |f - time|, in steps; arguments as in on_time."""
    return float(_off(spk, times).mean())


_work = Workspace()


def _off(spk: Array, times: Array) -> Array:
    """|f - time| of each output (B, K)."""
    early, _ = FirstSpikes()(spk, _work)  # -f
    off: Array = np.add(early[0], times, out=early[0])
    return np.abs(off, out=off)


class SpikeTime(Task):
    """Learn when to fire, by the squared error of the time of the first spike."""

    options: ClassVar[dict[str, Any]] = {
        "samples": 1024,
        "hidden": 128,
        "num_steps": 20,
        "epochs": 20,
        "batch_size": 32,
        "lr": 2e-3,
        "schedule": "cosine",  # at a constant rate the last steps move one sample in three past its time, and back
    }
    figures: ClassVar[dict[str, tuple[str, str]]] = {"on_time": ("on time", ".2%"), "steps_off": ("steps off", ".2f")}
    metrics: ClassVar[dict[str, Metric]] = {"on_time": on_time, "steps_off": steps_off}
    train: RegressionDataset
    test: RegressionDataset

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._check_samples()
        self.train, self.test = generate(self["seed"], self["samples"], TESTS, self["num_steps"], self["dtype"])
        self.loss_fn = SF.mse_temporal_loss(target_is_time=True)

    def layers(self) -> list[Layer]:
        hidden = self["hidden"]
        self._check_memory((4 * hidden + 13) * hidden + 2, 4 * hidden)  # a cell has four gates
        return layers(hidden)

    def described(self, samples: Samples) -> str:
        first, last = answers(self["num_steps"])
        return (
            f"{samples.name}: {len(samples)} pulses at step 0, the higher the sooner to be answered by a spike, "
            f"from step {first} to {last}"
        )

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        guess = float(np.median(self.train.targets))
        off = float(np.abs(self.test.targets - guess).mean())
        return "on time", (
            f"{figures['on_time']:.2%} of the test samples fire first at their step, and they are "
            f"{figures['steps_off']:.2f} steps off on average; always firing at step {guess:.0f} would be {off:.2f} off"
        )
