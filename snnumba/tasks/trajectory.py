"""A membrane that follows a trajectory: part I of snnTorch's regression tutorials.

x is a ramp of T steps, from 0 to an end e of its own; y is the membrane that is asked for:

    (1) x[t] = e t / (T - 1),    e drawn from U(0, 1) for each sample
    (2) y[t] = x[t]  |  sqrt(m x[t]),    m drawn from U(0, 1) once for all samples      mode: linear | sqrt

Source: https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_regression_1.html; Henkes et al. 2022,
arXiv:2210.03515.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import functional as SF
from .. import surrogate
from ..datasets import Samples
from ..kernels.cpu import Workspace
from ..layers import Leaky, Linear
from ..layers.base import Array, Layer, check_seed, check_size
from ..regression import RegressionDataset
from ..steps import Metric
from .task import Task

MODES = ("linear", "sqrt")
LEAST_STEPS = 2  # for a ramp
TESTS = 256  # samples to test
NET, SLOPE = 3, 4  # random numbers of their own, beside those of the two splits


def generate(
    seed: int = 0,
    num_train: int = 1024,
    num_test: int = TESTS,
    num_steps: int = 50,
    mode: str = "sqrt",
    dtype: npt.DTypeLike = "float32",
) -> tuple[RegressionDataset, RegressionDataset]:
    """Draw ramps and the trajectories that are asked for, eqs. (1) and (2): to train with, and to test.

    Parameters
    ----------
    seed : the same seed gives the same samples; a split does not depend on the size of the other
    num_train, num_test : samples in each
    num_steps : T, at least 2
    mode : "linear" or "sqrt"
    dtype : "float32" or "float64", of the batches

    Raises
    ------
    ValueError
        if an argument is not such.

    >>> train, test = generate(num_train=3, num_test=2, num_steps=5, mode="linear")
    >>> train
    RegressionDataset(trajectories (synthetic): 3 samples, 5 steps of 1, targets 5 steps of 1)
    >>> x, y = train.batch([0])
    >>> bool((x == y).all()), float(x[0, 0, 0])
    (True, 0.0)
    """
    seed = check_seed(seed) or 0
    steps = check_size("num_steps", num_steps)
    if steps < LEAST_STEPS:
        raise ValueError(f"num_steps must be at least {LEAST_STEPS}; got {steps}")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    slope = _slope(seed)
    splits = []
    for split, (name, number) in enumerate({"num_train": num_train, "num_test": num_test}.items()):
        ends = np.random.default_rng([seed, split]).random((check_size(name, number), 1))
        x = np.linspace(0, 1, steps)[:, None, None] * ends  # (1)
        y = x if mode == "linear" else np.sqrt(slope * x)  # (2)
        splits.append(RegressionDataset(x, y, name="trajectories (synthetic)", dtype=dtype))
    return splits[0], splits[1]


def _slope(seed: int) -> float:
    """m of eq. (2)."""
    return float(np.random.default_rng([seed, SLOPE]).random())


def layers(hidden: int = 128, seed: int = 0) -> list[Layer]:
    """The tutorial's net: two layers of spiking neurons, each with a threshold and a decay of its own, and a neuron
    without reset whose membrane is the output. The decays are learnable.

    >>> from snnumba import Network
    >>> net = Network(*layers(hidden=8), num_steps=50, seed=0)
    >>> spk, mem = net.forward(np.ones((50, 2, 1), np.float32))
    >>> mem.shape
    (50, 2, 1)
    """
    rng = np.random.default_rng([seed, NET])
    spike_grad = surrogate.fast_sigmoid()

    def neurons(size: int, threshold: Any = 1.0, reset_mechanism: str = "subtract") -> Leaky:
        return Leaky(
            beta=rng.random(size),
            threshold=threshold,
            spike_grad=spike_grad,
            learn_beta=True,
            reset_mechanism=reset_mechanism,
        )

    return [
        Linear(1, hidden),
        neurons(hidden, rng.random(hidden)),
        Linear(hidden, hidden),
        neurons(hidden, rng.random(hidden)),
        Linear(hidden, 1),
        neurons(1, reset_mechanism="none"),
    ]


_work = Workspace()


def mean_error(mem: Array, targets: Array) -> float:
    """The mean of |membrane - target|, both (T, B, K).

    >>> mean_error(np.zeros((50, 2, 1)), np.full((50, 2, 1), -0.5))
    0.5
    """
    difference = np.subtract(mem, targets, out=_work.empty("difference", mem.shape, mem.dtype))
    return float(np.abs(difference, out=difference).mean())


class Trajectory(Task):
    """Learn trajectories by the squared error of the membrane at each step."""

    options: ClassVar[dict[str, Any]] = {
        "mode": "sqrt",
        "samples": 1024,
        "hidden": 128,
        "num_steps": 50,
        "epochs": 20,
        "batch_size": 32,
        "lr": 1e-3,
        "schedule": "none",
    }
    figures: ClassVar[dict[str, tuple[str, str]]] = {"error": ("mean |error|", ".4f")}
    metrics: ClassVar[dict[str, Metric]] = {"error": mean_error}
    train: RegressionDataset
    test: RegressionDataset

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._check_samples()
        data = self["seed"], self["samples"], TESTS, self["num_steps"], self["mode"], self["dtype"]
        self.train, self.test = generate(*data)
        self.loss_fn = SF.mse_membrane_loss(time_var_targets=True)

    def layers(self) -> list[Layer]:
        hidden = self["hidden"]
        self._check_memory((hidden + 6) * hidden + 2, 2 * hidden)
        return layers(hidden, self["seed"])

    def described(self, samples: Samples) -> str:
        target = {"linear": "x", "sqrt": f"sqrt({_slope(self['seed']):.3f} x)"}[self["mode"]]
        return f"{samples.name}: {len(samples)} ramps x of {self['num_steps']} steps, the membrane to follow {target}"

    def verdict(self, figures: Mapping[str, float]) -> tuple[str, str]:
        targets = self.test.targets
        amplitude = float(targets.max(axis=0).mean())
        naive = float(np.abs(targets - self.train.targets.mean(axis=1, keepdims=True)).mean())
        return "error", (
            f"{figures['error']:.4f} on average, {figures['error'] / amplitude:.1%} of the test trajectories' "
            f"amplitude of {amplitude:.3f}; the mean trajectory would be {naive:.4f} off"
        )
