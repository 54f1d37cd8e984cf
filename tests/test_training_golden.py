"""Whole nets against snnTorch's own training runs: ten Adam steps on MNIST, end to end through the public API."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from golden_files import cases, load
from reference import mnist_pixels, relative_error
from targets import on_every_device, on_host

import snnumba as snn
from snnumba import functional as SF
from snnumba import optim

pytestmark = pytest.mark.compiled

LAYERS = ("fc1", "rleaky1", "fc2", "rleaky2")  # the golden names of layers 0 to 3


def names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The golden names of a net's arrays."""
    return {f"{LAYERS[int(name[0])]}{name[1:]}": x for name, x in state.items()}


def tutorial_net(config: dict[str, Any]) -> snn.Network:
    """The net of a golden case; seeded like it, it draws the same weights."""
    rleaky = {name: config[name] for name in ("beta", "threshold", "reset_mechanism", "reset_delay")}
    rleaky |= {name: config[name] for name in ("learn_beta", "learn_threshold")}
    hidden, outputs = config["hidden"], config["outputs"]
    return snn.Network(
        snn.Linear(config["inputs"], hidden),
        snn.RLeaky(**rleaky, linear_features=hidden),
        snn.Linear(hidden, outputs),
        snn.RLeaky(**rleaky, linear_features=outputs),
        num_steps=config["T"],
        dtype=config["dtype"],
        seed=config["init_seed"],
    )


def batches(config: dict[str, Any], data: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ten batches of a golden case."""
    try:
        images, labels = mnist_pixels()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    for step in range(config["steps"]):
        indices = data["indices"][step % 3]
        yield images[indices].astype(config["dtype"]) / np.asarray(255, config["dtype"]), labels[indices]


@on_every_device
@pytest.mark.parametrize("case", cases("training.h5"))
def test_ten_steps_of_training_equal_snntorch(case: str, device: str) -> None:
    config, data = load("training.h5", case)
    exact = config["dtype"] == "float64"
    # float64 differs by the order of sums alone. float32: a loss by 1e-6, gradients by 1e-5 of the largest, and
    # weights by 2e-5, since Adam turns a gradient's sign into a whole step of 1e-3 where the gradient is near zero
    near = 1e-10 if exact else 1e-6
    net = tutorial_net(config).to(device)
    loss_fn = getattr(SF, config["loss"]["name"])(**config["loss"]["params"])
    optimizer = optim.Adam(net, **config["optimizer"]["params"])
    for step, (x, y) in enumerate(batches(config, data)):
        spk, mem = net.forward(x)
        loss, gradient = loss_fn(spk if loss_fn.output == "spk" else mem, y)
        net.backward(**{f"d{loss_fn.output}": gradient})

        assert loss == pytest.approx(data["loss"][step], rel=near)
        np.testing.assert_array_equal(on_host(spk).sum(0), data["spike_counts"][step])
        assert SF.accuracy_rate(spk, y) == data["accuracy"][step]
        # snnTorch took the mean in the dtype of the case
        assert net.firing_rates()["1"] == pytest.approx(data["hidden_rate"][step], rel=1e-12 if exact else 1e-7)
        if step == 0:
            assert relative_error(on_host(mem), data["mem_out_step1"]) < near
            gradients = names(net.gradients)
            assert set(gradients) == {name[5:] for name in data if name.startswith("grad/")}
            for name, g in gradients.items():
                assert relative_error(on_host(g), data[f"grad/{name}"]) < (1e-10 if exact else 1e-5), name
        optimizer.step()
    for name, parameter in names(net.parameters).items():
        x, expected = on_host(parameter), data[f"final/{name}"]
        if exact:
            assert relative_error(x, expected) < 1e-10, name
        else:
            np.testing.assert_allclose(x, expected, rtol=0, atol=2e-5, err_msg=name)
