"""A training step of the tutorial net, snnumba beside the peers that are installed.

    python benchmarks/training.py [--threads 2] [--rounds 30] [--out benchmarks/results/training.json]

One step is forward, loss, backward and Adam: 784-128-10, batch 128, 10 steps of time, float32, mse_count_loss(0.8,
0.2), on images with MNIST's share of dark pixels. Each candidate is a process of its own, and all take turns (race.py).
Peers: requirements-peers.txt.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import race
import report

INPUTS, HIDDEN, OUTPUTS, BATCH, STEPS = 784, 128, 10, 128, 10
BATCHES = 20
WARM_UP = 30  # steps: compilation, caches, a peer's tuning
STEPS_A_ROUND = 20


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """The images and labels that every candidate trains on: 19% of the pixels are not zero, as in MNIST."""
    rng = np.random.default_rng(0)
    shape = (BATCH, INPUTS)
    return [
        ((rng.random(shape) * (rng.random(shape) < 0.19)).astype(np.float32), rng.integers(0, OUTPUTS, BATCH))
        for _ in range(BATCHES)
    ]


def snnumba_step(threads: int) -> Callable[[int], None]:
    """A function that does training step k."""
    import snnumba as snn
    from snnumba import functional as SF
    from snnumba import optim

    snn.set_num_threads(threads)
    net = snn.Network(
        snn.Linear(INPUTS, HIDDEN),
        snn.RLeaky(beta=0.9, linear_features=HIDDEN),
        snn.Linear(HIDDEN, OUTPUTS),
        snn.RLeaky(beta=0.9, linear_features=OUTPUTS),
        num_steps=STEPS,
        seed=0,
    )
    loss_fn = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
    optimizer = optim.Adam(net, lr=1e-3)
    data = batches()

    def step(k: int) -> None:
        x, y = data[k % BATCHES]
        spk, _ = net.forward(x)
        _, dspk = loss_fn(spk, y)
        net.backward(dspk=dspk)
        optimizer.step()

    return step


def snntorch_net(hidden: int, steps: int, device: str) -> Callable[[Any, Any], None]:
    """The same in snnTorch, as its regression tutorial writes it: a function that does a step with a batch."""
    import snntorch
    import torch
    from snntorch import functional as SF

    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = torch.nn.Linear(INPUTS, hidden)
            self.rlif1 = snntorch.RLeaky(beta=0.9, linear_features=hidden)
            self.fc2 = torch.nn.Linear(hidden, OUTPUTS)
            self.rlif2 = snntorch.RLeaky(beta=0.9, linear_features=OUTPUTS)

        def forward(self, x: Any) -> Any:
            spk1, mem1 = self.rlif1.init_rleaky()
            spk2, mem2 = self.rlif2.init_rleaky()
            recorded = []
            for _ in range(steps):
                spk1, mem1 = self.rlif1(self.fc1(x), spk1, mem1)
                spk2, mem2 = self.rlif2(self.fc2(spk1), spk2, mem2)
                recorded.append(spk2)
            return torch.stack(recorded)

    net = Net().to(device)
    loss_fn = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> None:
        loss = loss_fn(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def snntorch_step(threads: int) -> Callable[[int], None]:
    """snntorch_net on the CPU, for step k."""
    import torch

    torch.set_num_threads(threads)
    step = snntorch_net(HIDDEN, STEPS, "cpu")
    data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches()]
    return lambda k: step(*data[k % BATCHES])


CANDIDATES = {"snnumba": snnumba_step, "snnTorch": snntorch_step}
PACKAGES = {"snnumba": "snnumba", "snnTorch": "snntorch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each candidate (default 2)")
    parser.add_argument("--rounds", type=int, default=30, help=f"rounds of {STEPS_A_ROUND} steps (default 30)")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        step, k = CANDIDATES[arguments.serve](arguments.threads), itertools.count()
        race.serve({"step": lambda: step(next(k))}, WARM_UP, STEPS_A_ROUND)
        return
    names = race.installed(PACKAGES)
    found = race.measure(__file__, names, ["step"], arguments.threads, arguments.rounds)["step"]
    rows = [["training step", "median", "10% to 90%", "against snnumba", "peak memory"]]
    for row, result in zip(race.rows(found, "snnumba"), found.values(), strict=True):
        rows.append([*row, f"{result['peak_memory_MB']:.0f} MB"])
    print(f"784-{HIDDEN}-10, batch {BATCH}, {STEPS} steps, float32, {arguments.threads} threads")
    print(report.table(rows))
    if arguments.out:
        about = report.machine("snnumba", "numpy", "numba", "torch", "snntorch")
        report.write(arguments.out, about | {"threads": arguments.threads, "seconds_a_step": found})


if __name__ == "__main__":
    main()
