"""Whole steps to measure on both devices: training the tutorial net, an epoch of it, a recurrent layer there and back.

The least bytes of a step: the input, what a layer is given and gives back, and the membranes, as floats, and the spikes
as bits, all written once and read once; of each parameter its value and its gradient, and for Adam seven numbers.
Operations as in entries/, at the rates of spikes that the net has with its first weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import report
from entries.entry import DENSITY, LIF_BACKWARD, LIF_FORWARD, events, noise

import snnumba as snn
from snnumba import backend, optim
from snnumba import functional as SF

OUTPUTS = 10
MNIST = 60_000
EPOCHS = 4
BATCHES = 8  # that a step goes through in turn
LONG = 100  # steps, after which first weights make gradients that float32 does not hold, and a tenth of them does
Run = Callable[[], Any]


class Step:
    """Something to do on a device, with the bytes it must move and the operations it must do."""

    name: str
    size: str
    launches_alone = False  # on a GPU; else something is copied to or from the host
    has_products = True  # that a GPU may do with tf32 factors
    snntorch: Any = None  # gives the same in snnTorch on the GPU, where it can be had

    def on(self, device: str, precision: str = "fp32") -> Run:
        """It, with all that it needs on the device."""
        raise NotImplementedError

    def cost(self) -> tuple[float, float]:
        """Bytes and operations."""
        raise NotImplementedError

    @cached_property
    def bytes(self) -> float:
        return self.cost()[0]

    @cached_property
    def operations(self) -> float:
        return self.cost()[1]

    @property
    def memory(self) -> float:
        """Bytes of what is gone through: all of it."""
        return self.bytes


def moved(x: np.ndarray, device: str) -> Any:
    """An array on a device."""
    return backend.load(device).from_host(x)


def of_neurons(steps: int, batch: int, widths: list[int], net: snn.Network) -> tuple[float, float]:
    """Bytes of the states of layers with a linear feedback, and operations: there, back and of the feedback's weights.

    The net says how many spikes there are: it has done a forward pass.
    """
    size = operations = 0.0
    for n, rate in zip(widths, net.firing_rates().values(), strict=True):
        numbers = steps * batch * n
        size += 2 * numbers * (4 + 1 / 8)
        operations += numbers * (LIF_FORWARD + LIF_BACKWARD + n * (2 * rate + 1) + 1)
    return size, operations


@dataclass
class Tutorial(Step):
    """A training step of the tutorial net: forward, loss, backward, Adam."""

    hidden: int = 128
    steps: int = 10
    batch: int = 128
    inputs: int = 784
    checkpoint_every: int | None = None
    name = "training step"

    @property
    def size(self) -> str:  # type: ignore[override]
        return f"T{self.steps} B{self.batch} {self.inputs}-{self.hidden}-{OUTPUTS}"

    def net(self, device: str, precision: str = "fp32") -> snn.Network:
        """The net with its first weights."""
        net = snn.Network(
            snn.Linear(self.inputs, self.hidden),
            snn.RLeaky(beta=0.9, linear_features=self.hidden),
            snn.Linear(self.hidden, OUTPUTS),
            snn.RLeaky(beta=0.9, linear_features=OUTPUTS),
            num_steps=self.steps,
            device=device,
            precision=precision,
            seed=0,
            checkpoint_every=self.checkpoint_every,
        )
        if self.steps > LONG:
            state = net.state_dict()
            net.load_state_dict(
                state | {name: x / 10 for name, x in state.items() if name.endswith("recurrent.weight")}
            )
        return net

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Noise with MNIST's share of dark pixels, and labels."""
        shape, labels = (self.batch, self.inputs), np.arange(self.batch) % OUTPUTS
        x = noise(*shape, mean=0.5, std=0.1)
        return [(events(*shape, share=DENSITY, seed=k) * x, labels) for k in range(BATCHES)]

    def on(self, device: str, precision: str = "fp32") -> Run:
        net, loss_fn = self.net(device, precision), SF.mse_count_loss(0.8, 0.2)
        step = snn.TrainingStep(net, loss_fn, optim.Adam(net, lr=1e-3))
        return in_turn(step, [(moved(x, device), y) for x, y in self.batches()])

    def cost(self) -> tuple[float, float]:
        net = self.net("cpu")
        net.forward(self.batches()[0][0][:8])
        states, operations = of_neurons(self.steps, self.batch, [self.hidden, OUTPUTS], net)
        x, parameters, numbers = self.batch * self.inputs, net.vector.size, self.steps * self.batch * self.hidden
        between = numbers * OUTPUTS * (2 * net.firing_rates()["1"] + 1)
        operations += 2 * DENSITY * x * self.hidden + between + 12 * parameters
        return 8 * x + states + 36 * parameters, operations

    def snntorch(self) -> Run:
        """The same step, as snnTorch's tutorial writes it."""
        import torch
        from peers.with_snntorch import trained

        net = trained(self.hidden, self.steps, "cuda")
        return in_turn(net.step, [(torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()) for x, y in self.batches()])


def in_turn(step: Callable[..., None], batches: list[tuple[Any, Any]]) -> Run:
    """The step, each time with the next batch."""
    count = 0

    def run() -> None:
        nonlocal count
        step(*batches[count % len(batches)])
        count += 1

    return run


class Epoch(Tutorial):
    """An epoch by fit, which gathers the batches, of as many images as MNIST has and with its share of dark pixels."""

    name = "epoch by fit"
    snntorch = None  # its step is measured

    @property
    def size(self) -> str:  # type: ignore[override]
        return f"{MNIST} images, {super().size}"

    def cost(self) -> tuple[float, float]:
        size, operations = super().cost()
        count = -(-MNIST // self.batch)
        return (size + self.batch * self.inputs) * count, operations * count

    def on(self, device: str, precision: str = "fp32") -> Run:
        pixels = (events(MNIST, 28, 28, share=DENSITY) * 200).astype(np.uint8)
        data = snn.datasets.Dataset(pixels, np.arange(MNIST) % OUTPUTS)
        net, loss_fn = self.net(device, precision), SF.mse_count_loss(0.8, 0.2)
        optimizer = optim.Adam(net, lr=1e-3)
        return lambda: snn.fit(net, data, loss_fn, optimizer, EPOCHS, batch_size=self.batch, progress=False)

    def measured(self, fit: Run, budget: float) -> dict[str, float]:
        """Of epochs in one fit; the first, in which all is made that the others use, is left out."""
        found = report.spread(fit().seconds[1:])
        return found | {"a step": found["median"] / -(-MNIST // self.batch)}


@dataclass
class Recurrent(Step):
    """RLeaky with a linear feedback: all steps forward, and back from a gradient of every spike to the input."""

    neurons: int
    steps: int
    batch: int
    name = "RLeaky there and back"
    launches_alone = True

    @property
    def size(self) -> str:  # type: ignore[override]
        return f"T{self.steps} B{self.batch} N{self.neurons}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The current and the gradient of the spikes."""
        shape = self.steps, self.batch, self.neurons
        return noise(*shape, mean=0.3, std=0.5), noise(*shape, seed=1)

    def net(self, device: str, precision: str = "fp32") -> snn.Network:
        """The layer alone."""
        layer = snn.RLeaky(beta=0.9, linear_features=self.neurons)
        return snn.Network(layer, num_steps=self.steps, device=device, precision=precision, seed=0)

    def on(self, device: str, precision: str = "fp32") -> Run:
        net, (current, dspk) = self.net(device, precision), (moved(x, device) for x in self.arrays())

        def run() -> None:
            net.forward(current)
            net.backward(dspk=dspk, input_gradient=True)

        return run

    def cost(self) -> tuple[float, float]:
        net = self.net("cpu")
        net.forward(noise(self.steps, 4, self.neurons, mean=0.3, std=0.5))
        states, operations = of_neurons(self.steps, self.batch, [self.neurons], net)
        given = 16 * math.prod((self.steps, self.batch, self.neurons))  # the current, the spikes as floats, and back
        return given + states + 8 * self.neurons**2, operations

    def snntorch(self) -> Run:
        """The same, step by step."""
        import torch
        from layers import snntorch_run

        current, dspk = (torch.from_numpy(x).cuda() for x in self.arrays())
        return snntorch_run({"linear_features": self.neurons}, current, dspk)


GOALS: list[Step] = [Tutorial(), Epoch(), Recurrent(512, 500, 10), Recurrent(1024, 100, 128)]
QUICK: list[Step] = [*GOALS, Tutorial(batch=1024), Tutorial(hidden=1024), Tutorial(steps=100)]
STEPS: dict[str, list[Step]] = {
    "toy": [Tutorial(4, 2, 2, 6), Recurrent(5, 2, 2)],
    "quick": QUICK,
    "all": [
        *QUICK,
        *(Tutorial(batch=batch) for batch in (1, 16, 512, 4096)),
        *(Tutorial(hidden=hidden) for hidden in (32, 512, 2048)),
        *(Tutorial(steps=steps) for steps in (25, 500)),
        Epoch(batch=1024),
        *(Recurrent(n, steps, batch) for n, steps, batch in ((128, 100, 128), (512, 25, 128), (4096, 10, 128))),
    ],
}
