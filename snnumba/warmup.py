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

SAMPLES, STEPS, HIDDEN = 256, 10, 8  # batches are of half so many: of as many as are summed in parts
WIDE = 28, 128  # an image and a layer whose product is cut, too


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
    sizes = [WIDE] + [(2, HIDDEN)] * (len(LOSSES) - 1)
    for (make, options), (side, hidden) in zip(LOSSES.values(), sizes, strict=True):
        images = Dataset(np.full((SAMPLES, side, side), 255, np.uint8), np.arange(SAMPLES) % 2)
        neurons = (RLeaky(beta=0.9, linear_features=size) for size in (hidden, 2))
        layers = [Linear(side * side, hidden), next(neurons), Linear(hidden, 2), next(neurons)]
        yield layers, (images, images), make(**options)
    ramps = trajectory.generate(num_train=SAMPLES, num_test=1, num_steps=STEPS)
    yield trajectory.layers(HIDDEN), ramps, SF.mse_membrane_loss(time_var_targets=True)
    pulses = spike_time.generate(num_train=SAMPLES, num_test=1, num_steps=STEPS)
    yield spike_time.layers(HIDDEN), pulses, SF.mse_temporal_loss(target_is_time=True)
