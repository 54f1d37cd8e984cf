"""Forward and backward of one layer over time, snnumba beside the peers that are installed.

    python benchmarks/layers.py [--threads 2] [--rounds 15] [--out benchmarks/results/layers.json]

RLeaky with each of its feedbacks, float32: all steps forward, and back from a gradient of every spike to the input and
the weights. Each candidate is a process of its own, and all take turns (race.py). Peers: requirements-peers.txt.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import race
import report

LAYERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {  # steps, batch, neurons; arguments
    "conv2d": ((10, 32, 3, 32, 32), {"conv2d_channels": 3, "kernel_size": 5}),
    "one-to-one": ((100, 128, 1000), {"V": -0.1, "all_to_all": False}),
    "linear": ((25, 128, 512), {"linear_features": 512}),
}
WARM_UP, TIMES = 5, 3


def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The current and the gradient of the spikes that every candidate gets."""
    rng = np.random.default_rng(0)
    return rng.normal(0.3, 0.5, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)


def snnumba_runs(threads: int) -> dict[str, Callable[[], None]]:
    """Of each layer, a function that does it once."""
    import snnumba as snn

    snn.set_num_threads(threads)

    def run_of(shape: tuple[int, ...], arguments: dict[str, Any]) -> Callable[[], None]:
        layer, (current, dspk) = snn.RLeaky(beta=0.9, seed=0, **arguments), arrays(shape)

        def run() -> None:
            layer.forward(current)
            layer.backward(dspk=dspk)

        return run

    return {name: run_of(*layer) for name, layer in LAYERS.items()}


def snntorch_run(arguments: dict[str, Any], current: Any, dspk: Any) -> Callable[[], None]:
    """The same in snnTorch, step by step, of one layer with tensors on any device."""
    import snntorch
    import torch

    layer = snntorch.RLeaky(beta=0.9, **arguments).to(current.device)
    current.requires_grad_()

    def run() -> None:
        layer.zero_grad()
        current.grad = None
        spk, mem = layer.init_rleaky()
        recorded = []
        for now in current:
            spk, mem = layer(now, spk, mem)
            recorded.append(spk)
        torch.stack(recorded).backward(dspk)

    return run


def snntorch_runs(threads: int) -> dict[str, Callable[[], None]]:
    """snntorch_run of each layer on the CPU."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {
        name: snntorch_run(arguments, *map(torch.from_numpy, arrays(shape)))
        for name, (shape, arguments) in LAYERS.items()
    }


CANDIDATES = {"snnumba": snnumba_runs, "snnTorch": snntorch_runs}
PACKAGES = {"snnumba": "snnumba", "snnTorch": "snntorch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each candidate (default 2)")
    parser.add_argument("--rounds", type=int, default=15, help=f"rounds of {TIMES} times each layer (default 15)")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        made = CANDIDATES[arguments.serve](arguments.threads)
        race.serve({name: race.Task(run, WARM_UP, TIMES) for name, run in made.items()})
        return
    names = race.installed(PACKAGES)
    threads = arguments.threads
    found = race.measure(__file__, names, list(LAYERS), [threads], arguments.rounds)[threads]
    for feedback, (shape, _) in LAYERS.items():
        print(f"\n{feedback} feedback, {' x '.join(map(str, shape))}, float32, {arguments.threads} threads")
        heading = ["forward and backward", "median", "10% to 90%", "against snnumba"]
        print(report.table([heading, *race.rows(found[feedback], "snnumba")]))
    if arguments.out:
        about = report.machine("snnumba", "numpy", "numba", "torch", "snntorch")
        shapes = {feedback: shape for feedback, (shape, _) in LAYERS.items()}
        report.write(arguments.out, about | {"threads": arguments.threads, "shapes": shapes, "seconds": found})


if __name__ == "__main__":
    main()
