"""Nets, losses and optimizers on a GPU, or in numba's simulator of one, beside the same on the CPU."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import test_cuda_simulator  # noqa: F401  # its way of running a block, or its reason to skip
from reference import relative_error
from targets import SIMULATED, on_host

import snnumba as snn
from snnumba import backend, checkpoint, cli, optim, steps, streaming
from snnumba import functional as SF
from snnumba.guards import Diverged
from snnumba.history import History
from snnumba.kernels.cuda import dense

# float32 sums of up to 20 terms in another order, over a few steps and layers
ROUNDING = 1e-5
LABELS = np.array([0, 1, 2])


def images(seed: int = 0) -> np.ndarray:
    """A batch of 3 samples of 6 numbers, large enough to make neurons fire."""
    return (3 * np.random.default_rng(seed).normal(size=(3, 6))).astype(np.float32)


def tutorial_net(device: str, **options: Any) -> snn.Network:
    """The tutorial net, in toy widths."""
    return snn.Network(
        snn.Linear(6, 5),
        snn.RLeaky(beta=0.9, linear_features=5, **options),
        snn.Linear(5, 3),
        snn.RLeaky(beta=0.9, linear_features=3),
        num_steps=4,
        device=device,
        seed=0,
    )


NETS = {
    "one-to-one": lambda: [snn.Linear(6, 3), snn.RLeaky(0.8, V=[0.5, 1.0, -0.5], all_to_all=False, learn_beta=True)],
    "graded": lambda: [snn.Linear(6, 5), snn.Leaky(0.8, graded_spikes_factor=0.5), snn.Linear(5, 3), snn.Leaky(0.9)],
    "learnt": lambda: [snn.Linear(6, 3), snn.Leaky(0.8, learn_threshold=True, learn_graded_spikes_factor=True)],
    "undelayed": lambda: [snn.Linear(6, 3, bias=False), snn.RLeaky(0.8, linear_features=3, reset_delay=False)],
    "own feedback": lambda: [
        snn.Linear(6, 3),
        snn.RLeaky(0.8, recurrent=[snn.Linear(3, 2), snn.Leaky(0.5, threshold=0.2), snn.Linear(2, 3)]),
    ],
    "cells": lambda: [snn.SLSTM(6, 4, threshold=0.1), snn.Linear(4, 3), snn.Leaky(0.8)],
    "images": lambda: [
        snn.Conv2d(1, 2, 3, padding=1),
        snn.MaxPool2d(2, stride=1),
        snn.RLeaky(0.8, conv2d_channels=2, kernel_size=3),
        snn.Dropout(0.2, seed=1),
        snn.AvgPool2d((1, 2)),
        snn.Flatten(),
        snn.Linear(2, 3),
        snn.Leaky(0.8, threshold=0.1),
    ],
    "inhibited": lambda: [snn.Linear(6, 3), snn.Leaky(0.8, inhibition=True, reset_mechanism="zero")],
    "quantised": lambda: [snn.Linear(6, 3), snn.Leaky(0.8, state_quant=SF.quant.state_quant(3))],
}


@pytest.mark.parametrize("kind", NETS)
def test_a_training_step_is_the_calls_that_it_stands_for(kind: str) -> None:
    nets = [snn.Network(*NETS[kind](), num_steps=4, device="cuda", seed=0) for _ in range(2)]
    optimizers = [optim.Adam(net, lr=0.01) for net in nets]
    loss_fn = SF.mse_count_loss(0.8, 0.2)
    step = snn.TrainingStep(nets[0], SF.mse_count_loss(0.8, 0.2), optimizers[0])
    for seed in range(2 if SIMULATED else 4):  # a simulator replays nothing
        x = images(seed).reshape(3, 1, 2, 3) if kind == "images" else images(seed)
        loss, dspk = loss_fn(nets[1].forward(x)[0], LABELS)
        nets[1].backward(dspk=dspk)
        optimizers[1].step()
        assert step(x, LABELS) == loss
        np.testing.assert_array_equal(on_host(nets[0].vector), on_host(nets[1].vector))
        assert nets[0].firing_rates() == nets[1].firing_rates()


@pytest.mark.parametrize("kind", NETS)
def test_what_is_recorded_again_and_again_is_what_outputs_are(kind: str) -> None:
    nets = [snn.Network(*NETS[kind](), num_steps=4, device="cuda", seed=0).eval() for _ in range(2)]
    for record in ("spikes", "membrane", "count"):
        for seed in range(1 if SIMULATED else 3):
            x = images(seed).reshape(3, 1, 2, 3) if kind == "images" else images(seed)
            spk, mem = map(on_host, nets[1].forward(x))
            want = {"spikes": spk, "membrane": mem, "count": spk.sum(0)}[record]
            np.testing.assert_array_equal(on_host(nets[0].forward(x, record=record)), want)


@pytest.mark.parametrize("checkpoint_every", [None, 3])
@pytest.mark.parametrize("kind", NETS)
def test_a_net_has_the_spikes_and_gradients_of_the_cpu(kind: str, checkpoint_every: int | None) -> None:
    nets = [snn.Network(*NETS[kind](), num_steps=4, device=device, seed=0) for device in ("cpu", "cuda")]
    nets[1].checkpoint_every = checkpoint_every
    dspk, dmem = (np.random.default_rng(k).normal(size=(4, 3, 3)).astype(np.float32) for k in (1, 2))
    x = images().reshape(3, 1, 2, 3) if kind == "images" else images()
    made = [net.forward(x) for net in nets]
    for net in nets:
        net.backward(dspk, dmem)
    np.testing.assert_array_equal(on_host(made[1][0]), made[0][0])
    assert made[0][0].any()
    assert relative_error(on_host(made[1][1]), made[0][1]) < ROUNDING
    for name, gradient in nets[0].gradients.items():
        assert relative_error(on_host(nets[1].gradients[name]), gradient) < ROUNDING, name
    assert nets[1].firing_rates() == nets[0].firing_rates()


LOSSES = {
    "count": SF.mse_count_loss(0.8, 0.2),
    "membrane": SF.mse_membrane_loss(on_target=1.05, off_target=0.2, weight=[1, 2, 3]),
    "rate": SF.ce_rate_loss(weight=[1, 2, 3]) + SF.l1_rate_sparsity(0.1),
    "peak": SF.ce_max_membrane_loss(),
    "time": SF.mse_temporal_loss(),
    "inverse time": SF.ce_temporal_loss(inverse="reciprocal"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_five_training_steps_have_the_losses_of_the_cpu(name: str) -> None:
    loss_fn = LOSSES[name]
    losses: dict[str, list[float]] = {"cpu": [], "cuda": []}
    nets = {}
    for device, found in losses.items():
        net = nets[device] = tutorial_net(device)
        optimizer = optim.Adam(net, lr=0.02)
        for _ in range(5):
            spk, mem = net.forward(images())
            loss, gradient = loss_fn(mem if loss_fn.output == "mem" else spk, LABELS)
            net.backward(**{f"d{loss_fn.output}": gradient})
            optim.clip_grad_norm(net, 1.0)
            optimizer.step()
            found.append(loss)
    assert relative_error(losses["cuda"], losses["cpu"]) < ROUNDING
    assert losses["cpu"][-1] < losses["cpu"][0]
    moved = nets["cuda"].state_dict()
    for key, x in nets["cpu"].state_dict().items():
        assert relative_error(moved[key], x) < ROUNDING, key


@pytest.mark.parametrize("checkpoint_every", [None, 3])
def test_fit_and_evaluate_take_a_net_on_the_device(checkpoint_every: int | None) -> None:
    data = snn.datasets.Dataset(np.random.default_rng(0).integers(0, 256, (6, 2, 3), np.uint8), np.arange(6) % 3)
    histories = []
    for device in ("cpu", "cuda"):
        net = tutorial_net(device)
        net.checkpoint_every = checkpoint_every
        optimizer = optim.Adam(net, lr=0.02)
        histories.append(snn.fit(net, data, LOSSES["count"], optimizer, 2, validation=data, batch_size=3))
    assert relative_error(histories[1].loss, histories[0].loss) < ROUNDING
    assert histories[1].validation_accuracy == histories[0].validation_accuracy
    assert histories[1].rates == histories[0].rates


STEPS = {
    "clipped": {"clip": 0.1},
    "last batch short": {"drop_last": False},
    "sgd": {"optimizer": lambda net: optim.SGD(net, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)},
    "own metric": {"metrics": {"share": lambda spk, y: float(on_host(spk).mean())}},
    "dropout": {"dropout": True},
    "population": {"loss_fn": SF.ce_count_loss(population_code=True, num_classes=3), "outputs": 6},
    "sparse": {"loss_fn": SF.mse_count_loss(0.8, 0.2) + SF.l1_rate_sparsity(0.1)},
    "membrane": {"loss_fn": SF.mse_membrane_loss(on_target=1.05, off_target=0.2)},
    "weights of labels": {"loss_fn": SF.ce_rate_loss(weight=[1, 2, 3])},
}


@pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning")  # random bits wrap round
@pytest.mark.parametrize("name", STEPS)
def test_steps_on_the_device_measure_and_learn_what_the_cpu_does(name: str) -> None:
    options = {"loss_fn": LOSSES["count"], "optimizer": lambda net: optim.Adam(net, lr=0.02)} | STEPS[name]
    images = np.random.default_rng(0).integers(0, 256, (14, 2, 3), np.uint8)
    data = snn.datasets.Dataset(images, np.arange(14) % 3)
    found, more = {}, {key: options[key] for key in ("clip", "metrics") if key in options}
    for device in ("cpu", "cuda"):
        outputs = options.get("outputs", 3)
        dropout = [snn.Dropout(0.2)] if "dropout" in options else []
        layers = [snn.Linear(6, 5), snn.Leaky(0.9, threshold=0.2), *dropout, snn.Linear(5, outputs), snn.Leaky(0.9)]
        net = snn.Network(*layers, num_steps=4, device=device, seed=0)
        optimizer, loss_fn = options["optimizer"](net), options["loss_fn"]
        loader = snn.datasets.Loader(data, 4, drop_last=options.get("drop_last", True))
        schedule = optim.StepLR(optimizer, 1, 0.5)
        history = snn.fit(net, loader, loss_fn, optimizer, 2, data, schedule=schedule, **more)
        found[device] = history, net.state_dict(), optimizer.state_dict()
    (expected, weights, state), (got, moved, moved_state) = found.values()
    for field in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        assert relative_error(np.array(getattr(got, field)), np.array(getattr(expected, field))) < ROUNDING, field
    assert got.rates == expected.rates
    assert got.metrics == expected.metrics
    for key, x in (weights | state).items():
        assert relative_error((moved | moved_state)[key], x) < ROUNDING, key


def labelled(samples: int = 14) -> snn.datasets.Dataset:
    images = np.random.default_rng(0).integers(0, 256, (samples, 2, 3), np.uint8)
    return snn.datasets.Dataset(images, np.arange(samples) % 3)


class Stopped(Exception):
    """The end of a process, in place of it."""


@pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning")  # random bits wrap round
def test_a_run_stopped_amid_an_epoch_on_the_device_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def parts() -> tuple[snn.Network, optim.Optimizer]:
        layers = snn.Linear(6, 5), snn.Leaky(0.9, threshold=0.2), snn.Dropout(0.2), snn.Linear(5, 3), snn.Leaky(0.9)
        net = snn.Network(*layers, num_steps=4, device="cuda", seed=0)
        return net, optim.Adam(net, lr=0.02)

    def stop(history: History) -> None:
        assert history.begun is not None
        if history.epochs == 1 and len(history.begun.losses) == 4:
            checkpoint.save(tmp_path / "run.h5", net, optimizer, history, {})
            raise Stopped

    with patch.object(steps, "READ", 2):
        net, optimizer = parts()
        history = snn.fit(net, labelled(), LOSSES["count"], optimizer, 2, batch_size=2)
        whole = on_host(net.vector), history
        net, optimizer = parts()
        with pytest.raises(Stopped):
            snn.fit(net, labelled(), LOSSES["count"], optimizer, 2, batch_size=2, on_step=stop)
        run = checkpoint.load(tmp_path / "run.h5", "cuda")
        history = snn.fit(run.net, labelled(), LOSSES["count"], run.optimizer, 2, batch_size=2, history=run.history)
    np.testing.assert_array_equal(on_host(run.net.vector), whole[0])
    np.testing.assert_array_equal(history.loss, whole[1].loss)
    assert (history.rates, history.accuracy) == (whole[1].rates, whole[1].accuracy)


def test_nan_on_the_device_stops_with_its_step_and_array() -> None:
    net = tutorial_net("cuda")
    spoil = np.full(net.parameters["2.bias"].shape, np.nan, np.float32)

    def on_step(history: History) -> None:
        net._kernels.write(spoil, net.parameters["2.bias"])

    said = r"^epoch 1, step 3: the gradient of 3\.\S+ holds nan or inf; the training diverged"
    with patch.object(steps, "READ", 2), pytest.raises(Diverged, match=said):
        snn.fit(net, labelled(), LOSSES["count"], optim.Adam(net), 1, batch_size=2, on_step=on_step)


def test_a_step_that_is_left_out_on_the_device_changes_nothing() -> None:
    net = tutorial_net("cuda")
    before = on_host(net.vector)
    net._kernels.write(np.full(net.parameters["2.bias"].shape, np.nan, np.float32), net.parameters["2.bias"])
    with pytest.raises(Diverged, match="every step was left out"):
        snn.fit(net, labelled(), LOSSES["count"], optim.Adam(net), 1, batch_size=2, on_nan="skip")
    after = on_host(net.vector)
    np.testing.assert_array_equal(after[np.isfinite(after)], before[np.isfinite(after)])


def test_a_net_and_its_optimizer_move_between_devices_and_go_on() -> None:
    losses = []
    for route in (["cpu"] * 4, ["cuda", "cuda", "cpu", "cuda"]):
        net = tutorial_net(route[0], learn_beta=True)
        optimizer = optim.Adam(net, lr=0.02)
        for device in route:
            net.to(device)
            loss, dspk = LOSSES["count"](net.forward(images())[0], LABELS)
            net.backward(dspk=dspk)
            optimizer.step()
        losses.append(loss)
    assert losses[1] == pytest.approx(losses[0], rel=ROUNDING)


def test_tf32_rounds_the_factors_of_the_products_of_linear_layers() -> None:
    made = {}
    with patch.object(dense, "MANY", 0), patch.object(dense, "MOSTLY", 10**9):
        for precision in ("fp32", "tf32"):
            net = snn.Network(snn.Linear(6, 5), snn.Leaky(0.9), num_steps=1, device="cuda", seed=0, precision=precision)
            _, mem = net.forward(images())
            net.backward(dmem=np.random.default_rng(1).normal(size=(1, 3, 5)).astype(np.float32))
            made[precision] = [on_host(mem), on_host(net.gradients["0.weight"])]
            assert net.precision == precision
    for x, y in zip(made["tf32"], made["fp32"], strict=True):
        assert 1e-6 < relative_error(x, y) < 1e-3


def test_a_net_of_float64_has_no_tf32() -> None:
    with pytest.raises(ValueError, match="precision must be \"fp32\" for a net of float64; got 'tf32'"):
        snn.Network(snn.Linear(2, 2), snn.Leaky(0.9), num_steps=1, device="cuda", dtype="float64", precision="tf32")


def test_images_that_are_streamed_go_to_the_device_batch_by_batch(tmp_path: Path) -> None:
    pair = np.random.default_rng(0).integers(0, 256, (24, 2, 3), np.uint8), np.arange(24) % 3
    snn.datasets.save(tmp_path / "data.h5", train=pair, test=pair, name="data")
    with patch.multiple(streaming, SPARE=0, WORK=0):
        train, test = snn.datasets.open_data(str(tmp_path / "data.h5"), memory=1000)
    assert isinstance(train, streaming.StreamedDataset)
    histories = []
    for device in ("cpu", "cuda"):
        net = tutorial_net(device)
        histories.append(snn.fit(net, train, LOSSES["count"], optim.Adam(net, lr=0.02), 1, test, batch_size=5))
    cpu, gpu = histories
    assert gpu.accuracy == cpu.accuracy
    assert gpu.validation_accuracy == cpu.validation_accuracy
    assert relative_error(gpu.loss, cpu.loss) < ROUNDING


def test_training_twice_gives_the_same_bits() -> None:
    data = snn.datasets.Dataset(np.random.default_rng(0).integers(0, 256, (9, 2, 3), np.uint8), np.arange(9) % 3)
    found = []
    for _ in range(2):
        net = tutorial_net("cpu", learn_beta=True)
        history = snn.fit(net, data, LOSSES["count"], optim.Adam(net, lr=0.02), 3, batch_size=3, device="cuda")
        assert net.device == "cuda"
        found.append((history.loss.tobytes(), *(x.tobytes() for x in net.state_dict().values())))
    assert found[0] == found[1]


def test_a_run_saved_on_one_device_goes_on_on_the_other(tmp_path: Path) -> None:
    data = snn.datasets.Dataset(np.random.default_rng(0).integers(0, 256, (6, 2, 3), np.uint8), np.arange(6) % 3)
    losses = []
    for route in (("cpu", "cpu", "cpu"), ("cuda", "cpu", "cuda")):
        net = tutorial_net(route[0])
        run = checkpoint.Run(net, optim.Adam(net, lr=0.02), History(), {}, {}, None)
        for epoch, device in enumerate(route):
            if epoch:
                checkpoint.save(tmp_path / "run.h5", run.net, run.optimizer, run.history, {})
                run = checkpoint.load(tmp_path / "run.h5", device)
            assert run.net.device == device
            history = snn.fit(run.net, data, LOSSES["count"], run.optimizer, 1, batch_size=3, seed=epoch)
        losses.append(history.loss)
    assert relative_error(losses[1], losses[0]) < ROUNDING


class Foreign:
    """An array of another library, of which nothing is known but its interface."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


@pytest.mark.skipif(SIMULATED, reason="needs a CUDA device: the simulator's arrays have no address")
def test_arrays_of_other_libraries_go_in_and_come_out() -> None:
    net, kernels = tutorial_net("cuda"), backend.load("cuda")
    spk, _ = net.forward(Foreign(kernels.from_host(images())))
    np.testing.assert_array_equal(on_host(spk), on_host(net.forward(images())[0]))
    assert spk.__cuda_array_interface__["shape"] == spk.shape
    loss, dspk = LOSSES["count"](Foreign(spk), Foreign(kernels.from_host(LABELS)))
    assert loss == LOSSES["count"](spk, LABELS)[0]
    net.backward(dspk=Foreign(dspk))


def test_windows_carry_the_state_on_the_device() -> None:
    net = tutorial_net("cuda")
    x = np.stack([images(k) for k in range(4)])
    whole = [on_host(made) for made in net.forward(x)]
    got = []
    for window in (x[:2], x[2:]):
        got.append([on_host(made) for made in net.forward(window, num_steps=2)])
        net.detach()
    for k in range(2):
        np.testing.assert_array_equal(np.concatenate([made[k] for made in got]), whole[k])


def test_what_was_returned_is_not_overwritten_while_it_is_kept() -> None:
    net = tutorial_net("cuda")
    kept = [net.forward(images(k)) for k in range(3)]
    again = [[on_host(x).copy() for x in net.forward(images(k))] for k in range(3)]
    for made, expected in zip(kept, again, strict=True):
        for x, y in zip(made, expected, strict=True):
            np.testing.assert_array_equal(on_host(x), y)


def test_what_cannot_be_an_input_is_refused_by_name() -> None:
    net = tutorial_net("cuda")
    with pytest.raises(TypeError, match="x must be a NumPy array, or one with __cuda_array_interface__; got list"):
        net.forward([[0.0] * 6])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be float32, the dtype of the layer; got float64"):
        net.forward(np.zeros((3, 6)))
    with pytest.raises(ValueError, match=r"x must be \(B, 6\); got \(3, 5\)"):
        net.forward(np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="x must be C-contiguous on the device; got strides"):
        net.forward(backend.load("cuda").from_host(np.zeros((3, 12), np.float32))[:, ::2])


def test_info_names_the_device_and_tells_of_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    told = capsys.readouterr().out
    assert f"cuda: {backend.load('cuda').device_name()}" in told
    assert ("numba's simulator has none: plain launches" in told) == SIMULATED
