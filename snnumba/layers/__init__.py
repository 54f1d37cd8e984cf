"""The layers of a net, one file each."""

from .base import Layer
from .leaky import Leaky
from .linear import Linear
from .rleaky import RLeaky

__all__ = ["Layer", "Leaky", "Linear", "RLeaky"]
