"""The net in Norse: its LIFRecurrentCell, whose neuron has a synaptic current besides and is set to 0 by a spike."""

import torch
from norse.torch import LIFRecurrentCell

from . import HIDDEN, INPUTS, OUTPUTS, STEPS
from .with_torch import Trained, prepare


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = LIFRecurrentCell(INPUTS, HIDDEN)
        self.out = LIFRecurrentCell(HIDDEN, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state1 = state2 = None
        recorded = []
        for _ in range(STEPS):
            spk, state1 = self.hidden(x, state1)
            spk, state2 = self.out(spk, state2)
            recorded.append(spk)
        return torch.stack(recorded)


def net(threads: int) -> Trained:
    """On so many threads."""
    prepare(threads)
    return Trained(Net())
