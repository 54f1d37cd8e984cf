"""The net in snnumba."""

import numpy as np

import snnumba as snn
from snnumba import functional as SF
from snnumba import optim

from . import HIDDEN, INPUTS, LEARNING_RATE, OUTPUTS, STEPS


class Ours:
    def __init__(self) -> None:
        self.net = snn.Network(
            snn.Linear(INPUTS, HIDDEN),
            snn.RLeaky(beta=0.9, linear_features=HIDDEN),
            snn.Linear(HIDDEN, OUTPUTS),
            snn.RLeaky(beta=0.9, linear_features=OUTPUTS),
            num_steps=STEPS,
            seed=0,
        )
        loss_fn = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
        self.training_step = snn.TrainingStep(self.net, loss_fn, optim.Adam(self.net, lr=LEARNING_RATE))

    def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x, y

    def step(self, x: np.ndarray, y: np.ndarray) -> None:
        self.training_step(x, y)

    def classify(self, x: np.ndarray) -> np.ndarray:
        return self.net.forward(x, record="count").argmax(axis=1)


def net(threads: int) -> Ours:
    """On so many threads."""
    snn.set_num_threads(threads)
    return Ours()
