"""The tutorial net in snnumba and in others: a training step, and the classes of 10,000 images.

784-128-10, batch 128, 10 steps of time, float32: each layer a product and recurrent neurons with beta = 0.9, a linear
feedback and the reset by subtraction, an arctan surrogate, mse_count_loss(0.8, 0.2), Adam. Each is written as its own
documentation has it; where a library's neuron is another one, its file says so. An image is the same at every step: a
net that works on one step at a time multiplies it at each, the others once.
"""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

import numpy as np

INPUTS, HIDDEN, OUTPUTS, BATCH, STEPS = 784, 128, 10, 128, 10
BATCHES = 20  # to train on
IMAGES = 10_000  # to classify
CORRECT, INCORRECT = int(STEPS * 0.8), int(STEPS * 0.2)  # spikes of the class of the label, and of the others
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.999), 1e-8


def resize(hidden: int, steps: int) -> None:
    """Let the nets made from now on have another width, and so many steps of time."""
    global HIDDEN, STEPS, CORRECT, INCORRECT
    HIDDEN, STEPS, CORRECT, INCORRECT = hidden, steps, int(steps * 0.8), int(steps * 0.2)


class Net(Protocol):
    """What a candidate does with batches that `arrays` has made its own."""

    def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[object, object]: ...

    def step(self, x: object, y: object) -> None: ...

    def classify(self, x: object) -> None: ...


class Candidate(NamedTuple):
    """The package that it needs, the file here that has it, and the function there that makes it for some threads."""

    package: str
    file: str
    make: str


CANDIDATES = {
    "snnumba": Candidate("snnumba", "ours", "net"),
    "PyTorch by hand": Candidate("torch", "torch_by_hand", "eager"),
    "PyTorch by hand, compiled": Candidate("torch", "torch_by_hand", "compiled"),
    "JAX by hand": Candidate("jax", "jax_by_hand", "net"),
    "Spyx": Candidate("spyx", "with_spyx", "net"),
    "snnTorch": Candidate("snntorch", "with_snntorch", "eager"),
    "snnTorch, compiled": Candidate("snntorch", "with_snntorch", "compiled"),
    "SpikingJelly": Candidate("spikingjelly", "with_spikingjelly", "net"),
    "Norse": Candidate("norse", "with_norse", "net"),
}


def batches(count: int = BATCHES, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images and labels that every candidate gets: 19% of the pixels are not zero, as in MNIST."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, INPUTS)
    return [
        ((rng.random(shape) * (rng.random(shape) < 0.19)).astype(np.float32), rng.integers(0, OUTPUTS, BATCH))
        for _ in range(count)
    ]


def runs(name: str, threads: int) -> dict[str, Callable[[], None]]:
    """A training step, each time on the next batch, and the classification of all images, of a candidate."""
    candidate = CANDIDATES[name]
    net: Net = getattr(import_module(f"peers.{candidate.file}"), candidate.make)(threads)
    data = [net.arrays(x, y) for x, y in batches()]
    images = [net.arrays(x, y)[0] for x, y in batches(-(-IMAGES // BATCH), seed=1)]
    last = batches(1, seed=2)[0]
    images[-1] = net.arrays(last[0][: IMAGES % BATCH or BATCH], last[1])[0]
    count = 0

    def step() -> None:
        nonlocal count
        net.step(*data[count % BATCHES])
        count += 1

    def classify() -> None:
        for x in images:
            net.classify(x)

    return {"step": step, "inference": classify}
