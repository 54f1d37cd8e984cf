"""The layers of a net, one file each."""

from .base import Layer
from .conv2d import Conv2d
from .dropout import Dropout
from .flatten import Flatten
from .leaky import Leaky
from .linear import Linear
from .pooling import AvgPool2d, MaxPool2d
from .rleaky import RLeaky
from .slstm import SLSTM

__all__ = [
    "SLSTM",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Leaky",
    "Linear",
    "MaxPool2d",
    "RLeaky",
]
