"""Spiking neural networks trained on plain arrays, with kernels compiled by Numba.

import snnumba as snn
from snnumba import functional as SF, optim, surrogate

net = snn.Network(
    snn.Linear(784, 128), snn.RLeaky(beta=0.9, linear_features=128),
    snn.Linear(128, 10), snn.RLeaky(beta=0.9, linear_features=10), num_steps=10)
train, test = snn.datasets.open_data("digits")
history = snn.fit(net, train, SF.mse_count_loss(0.8, 0.2), optim.Adam(net, lr=1e-3), epochs=5, validation=test)
"""

__version__ = "0.1.0"

from . import datasets, functional, optim, spikegen, surrogate
from .backend import get_num_threads, set_num_threads
from .layers import SLSTM, AvgPool2d, Conv2d, Dropout, Flatten, Leaky, Linear, MaxPool2d, RLeaky
from .network import Network
from .training import evaluate, fit
from .training_step import TrainingStep

__all__ = [
    "SLSTM",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Leaky",
    "Linear",
    "MaxPool2d",
    "Network",
    "RLeaky",
    "TrainingStep",
    "datasets",
    "evaluate",
    "fit",
    "functional",
    "get_num_threads",
    "optim",
    "set_num_threads",
    "spikegen",
    "surrogate",
]
