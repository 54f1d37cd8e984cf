"""Metrics: the share of samples of which the right class is read from an output (T, B, C)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backend
from ..kernels import cpu
from ..kernels.cpu import Workspace
from ..layers.base import Array
from .checks import check_labels, check_output, check_population
from .readings import Counts, FirstSpikes, Reading


def accuracy_rate(
    spk: Array, targets: npt.ArrayLike, population_code: bool = False, num_classes: int | None = None
) -> float:
    """The share of samples whose label's class fires most; the lowest index wins a tie.

    Parameters
    ----------
    spk : (T, B, C) float
    targets : (B,) integers               labels
    population_code, num_classes :        as in mse_count_loss

    Raises
    ------
    TypeError, ValueError
        if spk is not a float array (T, B, C), targets not labels (B,) of its classes, or num_classes does not divide C.

    >>> spk = np.zeros((5, 2, 3)); spk[:, 0, 1] = 1
    >>> accuracy_rate(spk, [1, 2])        # the second sample is silent: class 0
    0.5
    """
    return _share_of_largest(Counts(check_population(population_code, num_classes)), "spk", spk, targets)


def accuracy_membrane(
    mem: Array, targets: npt.ArrayLike, population_code: bool = False, num_classes: int | None = None
) -> float:
    """The share of samples whose label's class has the highest mean membrane; the rest as in accuracy_rate.

    >>> mem = np.zeros((5, 2, 3)); mem[:, :, 1] = 0.5
    >>> accuracy_membrane(mem, [1, 2])
    0.5
    """
    return _share_of_largest(Counts(check_population(population_code, num_classes)), "mem", mem, targets)


def accuracy_temporal(spk: Array, targets: npt.ArrayLike) -> float:
    """The share of samples whose label's neuron fires first; the rest as in accuracy_rate.

    A silent neuron counts as firing at the last step.

    >>> spk = np.zeros((5, 2, 3)); spk[2, :, 1] = 1; spk[3:, :, 2] = 1
    >>> accuracy_temporal(spk, [1, 2])
    0.5
    """
    return _share_of_largest(FirstSpikes(), "spk", spk, targets)


_works: dict[Any, Workspace] = {}


def _work(kernels: Any) -> Workspace:
    """Work arrays for these kernels."""
    if kernels not in _works:
        _works[kernels] = kernels.Workspace()
    return _works[kernels]


def _share_of_largest(reading: Reading, name: str, output: Array, targets: npt.ArrayLike) -> float:
    output = check_output(name, output)
    _, batch, outputs = output.shape
    labels = check_labels("targets", targets, batch, reading.classes(name, outputs))
    kernels = backend.of(output)
    x, _ = reading(output, _work(kernels))
    winner = _work(cpu).empty("winner", labels.shape, np.intp)
    kernels.to_host(x)[0].argmax(axis=1, out=winner)
    return int(np.count_nonzero(winner == labels)) / len(labels)
