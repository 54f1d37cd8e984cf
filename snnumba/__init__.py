"""Spiking neural networks trained on plain arrays, with kernels compiled by Numba.

import snnumba as snn
from snnumba import functional as SF, optim, surrogate

net = snn.Network(
    snn.Linear(784, 128), snn.RLeaky(beta=0.9, linear_features=128),
    snn.Linear(128, 10), snn.RLeaky(beta=0.9, linear_features=10), num_steps=10)
"""

__version__ = "0.1.0"

from . import functional, optim, surrogate
from .backend import get_num_threads, set_num_threads
from .layers import Linear, RLeaky
from .network import Network

__all__ = [
    "Linear",
    "Network",
    "RLeaky",
    "functional",
    "get_num_threads",
    "optim",
    "set_num_threads",
    "surrogate",
]
