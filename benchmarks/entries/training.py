"""What a training step has around the layers: batches, losses, the optimizer."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from .entry import EXPONENTIAL, RATE, Arguments, Entry, empty, events, f4, noise


def losses(steps: int, batch: int, classes: int) -> Iterator[Entry]:
    """A count of spikes and back, and the criteria on such counts."""
    size, every, one = f"T{steps} B{batch} K{classes}", (steps, batch, classes), (1, batch, classes)
    weight, numbers = {"weight": np.ones(classes, f4)}, batch * classes

    def error(kernels: ModuleType) -> Arguments:
        given = {"x": noise(*one), "target": noise(*one, seed=1)} | weight
        rule = {"tolerance": f4(0), "factor": f4(0.1)}
        return given | rule | {"dx": empty(*one), "loss": empty(batch, classes)}

    def entropy(kernels: ModuleType) -> Arguments:
        given = {"x": noise(*one), "labels": np.arange(batch) % classes} | weight
        return given | {"factor": f4(0.1), "dx": empty(*one), "loss": empty(batch)}

    yield Entry(
        "count_forward", "", size, lambda _: {"spk": events(*every, share=RATE), "x": empty(*one)}, steps * numbers
    )
    yield Entry("count_backward", "", size, lambda _: {"dx": noise(*one), "dspk": empty(*every)}, 0)
    yield Entry("squared_error", "", f"B{batch} K{classes}", error, 5 * numbers)
    yield Entry("cross_entropy", "", f"B{batch} K{classes}", entropy, (EXPONENTIAL + 4) * numbers)


def gather(batch: int, pixels: int) -> Iterator[Entry]:
    """Images of one byte a pixel, as floats."""
    images = 60_000

    def make(kernels: ModuleType) -> Arguments:
        given = {
            "images": np.resize(np.arange(251, dtype=np.uint8), (images, pixels)),
            "labels": np.arange(images) % 10,
        }
        chosen = {"indices": np.random.default_rng(0).integers(0, images, batch)}
        unit = {"unit": f4(255), "mean": f4(0), "std": f4(1)}
        return given | chosen | unit | {"x": empty(batch, pixels), "y": empty(batch, dtype=np.int64)}

    touched = {"images": batch * pixels, "labels": 8 * batch}
    yield Entry("gather", "", f"B{batch} P{pixels}", make, 4 * batch * pixels, parts=touched)


def adam(size: int) -> Iterator[Entry]:
    def make(kernels: ModuleType) -> Arguments:
        vectors = {"parameters": noise(size), "gradients": noise(size), "m": noise(size), "v": np.abs(noise(size))}
        step, beta2, rest1, rest2, eps, keep, decay = 1e-3, 0.999, 0.1, 1e-3, 1e-8, 1, 0
        factors = np.array([step, beta2, rest1, rest2, eps, keep, decay], f4)
        return vectors | {"factors": factors, "bounds": np.array([0, size])}

    yield Entry("adam", "", f"P{size}", make, 12 * size, twice=("parameters", "m", "v"))
