"""What no training goes on with: NaN and infinity, and where in a net they are; layers that never fire, or always."""

import warnings

import numpy as np

from .history import History
from .layers.base import Array
from .layers.spiking import Spiking
from .network import Network

ADVICE = {  # for a firing rate
    0.0: "never fired; lower its threshold, or raise the weights or the inputs before it",
    1.0: "always fired; raise its threshold, or lower the weights or the inputs before it",
}


class Diverged(ValueError):
    """NaN or infinity came up in training."""


def loss_fault(net: Network, loss: float) -> str:
    """What to say of a loss that is not finite."""
    return f"the loss is {loss}{_source(net)}"


def gradient_fault(net: Network, place: int, seen: bool = True) -> str:
    """What to say of gradients that are not finite, the last of them number `place` - 1 of the flat vector.

    seen : whether the net is as it was at that step
    """
    name = net.array_at(place - 1)
    if not seen:
        return f"the gradient of {name} holds nan or inf"
    return f"the gradient of {name} holds {_kind(net._kernels.to_host(net.gradient_vector)[place - 1])}{_source(net)}"


def _source(net: Network) -> str:
    """What may have made it so: the first array or membrane of the net that is not finite."""
    seen = {name: (f"since {name} holds", x) for name, x in net.state_dict().items()}
    for k, layer in enumerate(net.layers):
        if isinstance(layer, Spiking) and "mem" in layer._tape:
            seen[str(k)] = f"since the membranes of layer {k} hold", net._kernels.to_host(layer._tape["mem"])
    return next((f", {text} {_kind(x)}" for text, x in seen.values() if not np.isfinite(x).all()), "")


def _kind(x: Array) -> str:
    return "nan" if np.isnan(x).any() else "inf"


def warn_of_still_layers(history: History, read: str | None) -> None:
    """Warn of each layer that for the first time never fired in an epoch, or always, but for one of which only the
    membranes are `read`."""
    for layer, rates in history.rates.items():
        if layer != read and rates[-1] in ADVICE and all(rate not in ADVICE for rate in rates[:-1]):
            warnings.warn(f"epoch {history.epochs}: layer {layer} {ADVICE[rates[-1]]}", stacklevel=3)
