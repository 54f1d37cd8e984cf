"""A convolutional net of recurrent neurons on MNIST: accuracy after each epoch, and seconds a training step.

    python benchmarks/conv_mnist.py [--data data/mnist.h5] [--epochs 3] [--threads 2] [--out benchmarks/results/...]

Two convolutions, each followed by a maximum over 2x2 pixels and by RLeaky with conv2d feedback, then a linear layer;
6 steps of time, float32, mse_count_loss(0.8, 0.2), batch 64, Adam with a learning rate of 2e-3, 0.4 of that in the next
epoch, and so on. `snnumba data mnist` makes the file.
"""

import argparse

import report

import snnumba as snn
from snnumba import datasets, optim
from snnumba import functional as SF
from snnumba.training import History

STEPS, BATCH, LR, GAMMA = 6, 64, 2e-3, 0.4


def make_net(seed: int) -> snn.Network:
    return snn.Network(
        snn.Conv2d(1, 16, 5, padding=2),
        snn.MaxPool2d(2),
        snn.RLeaky(beta=0.9, conv2d_channels=16, kernel_size=3),
        snn.Conv2d(16, 32, 3, padding=1),
        snn.MaxPool2d(2),
        snn.RLeaky(beta=0.9, conv2d_channels=32, kernel_size=3),
        snn.Flatten(),
        snn.Linear(1568, 10),
        snn.RLeaky(beta=0.9, linear_features=10),
        num_steps=STEPS,
        seed=seed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="an HDF5 file (default data/mnist.h5)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the images")
    parser.add_argument("--out", help="write the result to this JSON file")
    arguments = parser.parse_args()

    snn.set_num_threads(arguments.threads)
    train, test = datasets.open_data(arguments.data, flatten=False)
    net = make_net(arguments.seed)
    optimizer = optim.Adam(net, lr=LR)
    steps_an_epoch = len(train) // BATCH

    def on_epoch(epoch: int, history: History) -> None:
        rates = ", ".join(f"{layer[-1]:.1%}" for layer in history.rates.values())
        print(
            f"epoch {epoch}: loss {history.epoch_loss[-1]:.5f}, train {history.accuracy[-1]:.2%}, "
            f"test {history.validation_accuracy[-1]:.2%}, firing {rates}, "
            f"{history.seconds[-1] / steps_an_epoch * 1e3:.0f} ms a step",
            flush=True,
        )

    history = snn.fit(
        net,
        train,
        SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2),
        optimizer,
        arguments.epochs,
        validation=test,
        schedule=optim.StepLR(optimizer, step_size=1, gamma=GAMMA),
        batch_size=BATCH,
        seed=arguments.seed,
        on_epoch=on_epoch,
    )
    if arguments.out:
        about = report.machine("snnumba", "numpy", "numba")
        result = {
            "net": repr(net),
            "data": repr(train),
            "threads": arguments.threads,
            "seed": arguments.seed,
            "batch_size": BATCH,
            "loss": history.epoch_loss,
            "train_accuracy": history.accuracy,
            "test_accuracy": history.validation_accuracy,
            "rates": history.rates,
            "seconds_an_epoch": history.seconds,
            "seconds_a_step": [seconds / steps_an_epoch for seconds in history.seconds],
        }
        report.write(arguments.out, about | result)


if __name__ == "__main__":
    main()
