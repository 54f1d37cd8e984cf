"""What the nets written with PyTorch's modules share: training by autograd and torch.optim.Adam."""

from typing import Any

import numpy as np
import torch

from . import CORRECT, INCORRECT, LEARNING_RATE, OUTPUTS


class Trained:
    """A module that gives the spikes (T, B, C) of a batch, and its training; compiled: by torch.compile."""

    def __init__(self, module: torch.nn.Module, loss_fn: Any = None, compiled: bool = False) -> None:
        self.module = module
        self.run = torch.compile(module) if compiled else module
        self.loss_fn = count_loss if loss_fn is None else loss_fn
        self.optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)

    def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        loss = self.loss_fn(self.run(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.run(x).sum(dim=0).argmax(dim=1)


def count_loss(spk: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """mse_count_loss(0.8, 0.2), for libraries that have none."""
    target = INCORRECT + (CORRECT - INCORRECT) * torch.nn.functional.one_hot(y, OUTPUTS)
    return ((spk.sum(dim=0) - target) ** 2).mean() / len(spk)


def prepare(threads: int) -> None:
    """Use so many threads, and the same weights each time."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
