"""The main job, timed: the tutorial net on MNIST, with all that belongs to it.

    python benchmarks/mnist.py [--data data/mnist.h5] [--device cpu] [--seeds 3] [--out benchmarks/results/mnist.json]

784-128-10, 10 steps of time, batch 128, Adam 1e-3, 5 epochs, with each loss. The seconds of all are from the file to
the last epoch's test: reading, shuffling, training, evaluation after each epoch. Kernels are compiled before, by the
same job on a few images. `snnumba data mnist` makes the file.
"""

import argparse
import time
from typing import Any

import report

import snnumba as snn
from snnumba import datasets, functional, optim

HIDDEN, OUTPUTS, STEPS, BATCH, EPOCHS = 128, 10, 10, 128, 5
FEW = 1024  # images
LOSSES = {
    "count": functional.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2),
    "membrane": functional.mse_membrane_loss(on_target=1.05, off_target=0.2),
}


def job(data: str, device: str, loss: str, seed: int, few: bool = False) -> dict[str, Any]:
    """Train and test the net, and tell how that went."""
    begin = time.perf_counter()
    train, test = datasets.open_data(data)
    if few:
        train, test = (datasets.Dataset(x.images[:FEW], x.labels[:FEW]) for x in (train, test))
    net = snn.Network(
        snn.Linear(train.sample_shape[0], HIDDEN),
        snn.RLeaky(beta=0.9, linear_features=HIDDEN),
        snn.Linear(HIDDEN, OUTPUTS),
        snn.RLeaky(beta=0.9, linear_features=OUTPUTS),
        num_steps=STEPS,
        device=device,
        seed=seed,
    )
    history = snn.fit(net, train, LOSSES[loss], optim.Adam(net), EPOCHS, test, batch_size=BATCH, seed=seed)
    return {
        "loss": loss,
        "seed": seed,
        "test_accuracy": history.validation_accuracy,
        "epoch_loss": history.epoch_loss,
        "rates": {layer: rates[-1] for layer, rates in history.rates.items()},
        "seconds_an_epoch": history.seconds,
        "seconds_of_all": time.perf_counter() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="an HDF5 file (default data/mnist.h5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each loss, with seeds 0, 1, ... (default 3)")
    parser.add_argument("--out", help="write the result to this JSON file")
    arguments = parser.parse_args()

    snn.set_num_threads(arguments.threads)
    runs = []
    for loss in LOSSES:
        job(arguments.data, arguments.device, loss, 0, few=True)
        for seed in range(arguments.seeds):
            run = job(arguments.data, arguments.device, loss, seed)
            epochs = report.spread(run["seconds_an_epoch"])
            print(
                f"{loss} loss, seed {seed}: {run['test_accuracy'][-1]:.2%} of the test images; an epoch "
                f"{epochs['median']:.3f} s, all {EPOCHS} with their tests {run['seconds_of_all']:.2f} s",
                flush=True,
            )
            runs.append(run)
    if arguments.out:
        about = report.machine("snnumba", "numpy", "numba", "numba-cuda", gpu=arguments.device == "cuda")
        report.write(arguments.out, about | {"device": arguments.device, "threads": arguments.threads, "runs": runs})


if __name__ == "__main__":
    main()
