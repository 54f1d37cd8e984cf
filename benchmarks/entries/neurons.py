"""Neurons over all steps: leaky integrate-and-fire with each feedback, and spiking LSTM cells."""

import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from snnumba.kernels import cpu, rules

from .entry import LIF_BACKWARD, LIF_FORWARD, LOGISTIC, TANGENT, Arguments, Entry, blocks, empty, f4, noise, rows_from

DRIVE = 0.2  # mean of a current that makes about 15% of neurons spike at a step, with beta = 0.9


def rate_of(steps: int, drive: float) -> float:
    """The share of spikes that such a current gives in so many steps, found by running some neurons."""
    u, count = np.zeros(4096, f4), 0
    for i in noise(steps, 4096, mean=drive, std=0.3):
        u = f4(0.9) * u + i - (u > 1)
        count += np.count_nonzero(u > 1)
    return count / (4096 * steps)


def lif(feedback: str, steps: int, batch: int, shape: tuple[int, ...], drive: float = DRIVE) -> Iterator[Entry]:
    """Forward and back over all steps; feedback weights so small that the rate of spikes is as without."""
    n, rate, extra = math.prod(shape), rate_of(steps, drive), (0.0, 0.0)
    every, kernel_size = (steps, batch, n), (3, 3)
    size = f"T{steps} B{batch} N{'x'.join(map(str, shape))} {rate:.0%}"
    if feedback == "one-to-one":
        extra = 1.0, 1.0
    if feedback == "linear":
        extra = rate * n, n
    if feedback == "conv2d":
        extra = rate * 9 * shape[0], 9 * shape[0]

    def common(kernels: ModuleType, back: bool) -> tuple[Arguments, Arguments]:
        weight, window = None, {"window": None, "room": None}
        if feedback == "one-to-one":
            weight = np.full(n, 1e-3, f4)
        if feedback == "linear":
            weight = noise(n, n, std=1e-3 / n)
        if feedback == "conv2d":
            weight = noise(shape[0], *kernel_size, shape[0], std=1e-3 / n)
            made = kernels.conv_windows(shape, shape[0], kernel_size, (1, 1), (1, 1))[back]
            window = {"window": made, "room": np.zeros((blocks(kernels, batch), made.forward_room), f4)}
            weight = weight.reshape(*weight.shape, 1, 1) if back else weight
        neurons = {"beta": np.full(n, 0.9, f4), "threshold": np.ones(n, f4)}
        return {"weight": weight}, window | neurons

    def forward(kernels: ModuleType) -> Arguments:
        weight, rest = common(kernels, back=False)
        mem = empty(*every)
        bias = noise(n, std=1e-3) if feedback in ("linear", "conv2d") else None
        return (
            {"current": noise(*every, mean=drive, std=0.3)} | weight | {"bias": bias} | rest
            | {"levels": None, "winner": None, "spk0": empty(batch, n), "mem0": empty(batch, n)}
            | {"reset": rules.SUBTRACT, "delay": True, "mem": mem, "potential": mem}
            | {"spk": empty(steps + 1, batch, cpu.num_words(n), dtype=np.uint64)}
        )  # fmt: skip

    def backward(kernels: ModuleType) -> Arguments:
        weight, rest = common(kernels, back=True)
        mem = noise(*every, mean=0.5, std=0.5)
        partial = blocks(kernels, batch), n
        bits = np.zeros((steps + 1, batch, cpu.num_words(n)), np.uint64)
        cpu.find_active((mem > 1).astype(f4), bits[1:])
        return (
            {"dspk": noise(*every, seed=2), "dmem": np.zeros((1, 1, n), f4)} | weight | rest
            | {"winner": None, "spk0": None, "mem0": empty(batch, n), "mem": mem, "potential": mem, "spk": bits}
            | {"kind": rules.ATAN, "a": f4(2), "b": f4(0), "reset": rules.SUBTRACT, "delay": True}
            | {"learn": 0, "initial": False, "dcurrent": empty(*every), "dspk0": empty(batch, n)}
            | {"dmem0": empty(batch, n), "dbeta": empty(*partial), "dthreshold": empty(*partial)}
            | {"dweight": empty(*partial) if feedback == "one-to-one" else None}
        )  # fmt: skip

    unused = ("room", "dspk0", "dmem0", "dbeta", "dthreshold")
    numbers = math.prod(every)
    table = rows_from("weight", n * n, batch) if feedback == "linear" else None
    yield Entry("lif_forward", feedback, size, forward, numbers * (LIF_FORWARD + extra[0]), table=table)
    yield Entry("lif_backward", feedback, size, backward, numbers * (LIF_BACKWARD + extra[1]), unused)


def lstm(steps: int, batch: int, n: int) -> Iterator[Entry]:
    """Spiking LSTM cells over all steps."""
    numbers, every, size = steps * batch * n, (steps, batch, n), f"T{steps} B{batch} N{n}"

    def state() -> Arguments:
        return {"syn0": empty(batch, n), "mem0": empty(batch, n)}

    def forward(kernels: ModuleType) -> Arguments:
        given = {"current": noise(steps, batch, 4 * n), "weight": noise(n, 4 * n, std=0.5 / math.sqrt(n))}
        made = {"syn": empty(*every), "mem": empty(*every), "spk": empty(steps, batch, -(-n // 64), dtype=np.uint64)}
        rest = {"reset": rules.NONE, "gates": empty(steps, batch, 4 * n)}
        return given | {"threshold": np.full(n, 0.1, f4), "levels": None, "winner": None} | state() | rest | made

    def backward(kernels: ModuleType) -> Arguments:
        none = np.zeros((1, 1, n), f4)
        given = {"dspk": noise(*every), "dsyn": none, "dmem": none, "weight": noise(4 * n, n, std=0.5 / math.sqrt(n))}
        gates = np.abs(noise(steps, batch, 4 * n, std=0.3)).clip(0, 1)
        known = {"gates": gates, "syn": noise(*every, std=0.3), "mem": noise(*every, std=0.2)}
        rule = {"kind": rules.ATAN, "a": f4(2), "b": f4(0), "reset": rules.NONE, "learn": 0}
        work = {"surrogates": empty(blocks(kernels, batch), n)}
        made = {"d": empty(steps, batch, 4 * n), "dsyn0": empty(batch, n), "dmem0": empty(batch, n)}
        last = {"dthreshold": empty(blocks(kernels, batch), n)}
        return given | {"threshold": np.full(n, 0.1, f4), "winner": None} | state() | known | rule | work | made | last

    cell = 3 * LOGISTIC + 2 * TANGENT + 8
    yield Entry("lstm_forward", "", size, forward, numbers * (4 * n + cell))
    yield Entry("lstm_backward", "", size, backward, numbers * (4 * n + TANGENT + 30), ("surrogates", "dthreshold"))
