"""The net in snnTorch, as its regression tutorial writes it, and compiled by torch.compile."""

import snntorch
import torch
from snntorch import functional as SF

from . import HIDDEN, INPUTS, OUTPUTS, STEPS
from .with_torch import Trained, prepare


class Net(torch.nn.Module):
    def __init__(self, hidden: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.fc1 = torch.nn.Linear(INPUTS, hidden)
        self.rlif1 = snntorch.RLeaky(beta=0.9, linear_features=hidden)
        self.fc2 = torch.nn.Linear(hidden, OUTPUTS)
        self.rlif2 = snntorch.RLeaky(beta=0.9, linear_features=OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spk1, mem1 = self.rlif1.init_rleaky()
        spk2, mem2 = self.rlif2.init_rleaky()
        recorded = []
        for _ in range(self.steps):
            spk1, mem1 = self.rlif1(self.fc1(x), spk1, mem1)
            spk2, mem2 = self.rlif2(self.fc2(spk1), spk2, mem2)
            recorded.append(spk2)
        return torch.stack(recorded)


def trained(hidden: int = HIDDEN, steps: int = STEPS, device: str = "cpu", compiled: bool = False) -> Trained:
    """The net of some width on a device."""
    loss_fn = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
    return Trained(Net(hidden, steps).to(device), loss_fn, compiled)


def eager(threads: int) -> Trained:
    """Operation by operation."""
    prepare(threads)
    return trained()


def compiled(threads: int) -> Trained:
    """The module compiled."""
    prepare(threads)
    return trained(compiled=True)
