"""The net in SpikingJelly: its LIF neuron with tau = 10, beta = 1 - 1/tau, in its LinearRecurrentContainer.

The container multiplies what it is given, beside the fed-back spikes, with one more matrix (128 x 128 and 10 x 10).
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from . import HIDDEN, INPUTS, OUTPUTS, STEPS
from .with_torch import Trained, prepare


def recurrent(features: int) -> layer.LinearRecurrentContainer:
    """Recurrent neurons."""
    lif = neuron.LIFNode(
        tau=10.0, decay_input=False, v_reset=None, detach_reset=True, surrogate_function=surrogate.ATan()
    )
    return layer.LinearRecurrentContainer(lif, features, features)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(INPUTS, HIDDEN), recurrent(HIDDEN), torch.nn.Linear(HIDDEN, OUTPUTS), recurrent(OUTPUTS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self.layers)
        return torch.stack([self.layers(x) for _ in range(STEPS)])


def net(threads: int) -> Trained:
    """On so many threads."""
    prepare(threads)
    return Trained(Net())
