"""The layers of a net, one file each."""

from .base import Layer
from .leaky import Leaky
from .linear import Linear
from .rleaky import RLeaky
from .slstm import SLSTM

__all__ = ["SLSTM", "Layer", "Leaky", "Linear", "RLeaky"]
