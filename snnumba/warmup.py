"""Compile ahead what `snnumba train` needs: a few steps of each of its jobs, in small."""

import warnings
from collections.abc import Iterator

import numpy as np

from . import functional as SF
from . import optim
from .datasets import Dataset, Samples
from .layers import Linear, RLeaky
from .layers.base import Layer
from .network import Network
from .tasks import spike_time, trajectory
from .tasks.classification import LOSSES
from .training import fit
from .training_step import Loss

SAMPLES, STEPS, HIDDEN = 64, 10, 8  # batches are of half so many: of more than one thread would do


def warm_up(device: str = "cpu") -> None:
    """Train nets of every task in float32, and test them, so that their kernels are compiled and kept.

    Raises
    ------
    ValueError
        if the device is not to be had.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that never fire: nobody means these nets to learn
        for layers, (train, test), loss_fn in _jobs():
            net = Network(*layers, num_steps=STEPS, device=device, seed=0)
            for optimizer in (optim.Adam(net), optim.SGD(net)):
                fit(net, train, loss_fn, optimizer, 1, test, clip=1.0, batch_size=SAMPLES // 2, progress=False)


def _jobs() -> Iterator[tuple[list[Layer], tuple[Samples, Samples], Loss]]:
    images = Dataset(np.full((SAMPLES, 2, 2), 255, np.uint8), np.arange(SAMPLES) % 2)
    for make, options in LOSSES.values():
        neurons = (RLeaky(beta=0.9, linear_features=size) for size in (HIDDEN, 2))
        layers = [Linear(4, HIDDEN), next(neurons), Linear(HIDDEN, 2), next(neurons)]
        yield layers, (images, images), make(**options)
    ramps = trajectory.generate(num_train=SAMPLES, num_test=1, num_steps=STEPS)
    yield trajectory.layers(HIDDEN), ramps, SF.mse_membrane_loss(time_var_targets=True)
    pulses = spike_time.generate(num_train=SAMPLES, num_test=1, num_steps=STEPS)
    yield spike_time.layers(HIDDEN), pulses, SF.mse_temporal_loss(target_is_time=True)
