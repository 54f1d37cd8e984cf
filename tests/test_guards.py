"""What is not finite stops a training with its place named, or that step is left out; still layers are warned of."""

import re
import warnings

import numpy as np
import pytest

import snnumba as snn
from snnumba import checkpoint, cli, cli_train, datasets, optim
from snnumba import functional as SF
from snnumba.datasets import Dataset
from snnumba.guards import Diverged
from snnumba.kernels import cpu

LOSS = SF.mse_count_loss(0.8, 0.2)


def data(samples=64):
    return Dataset(np.random.default_rng(0).integers(0, 256, (samples, 2, 3)).astype(np.uint8), np.arange(samples) % 3)


def make_net(threshold=0.3):
    return snn.Network(
        snn.Linear(6, 8),
        snn.RLeaky(beta=0.9, linear_features=8, threshold=threshold),
        snn.Linear(8, 3),
        snn.RLeaky(beta=0.9, linear_features=3, threshold=0.3),
        num_steps=5,
        seed=0,
    )


class Spoiled:
    """A loss with something not finite in it at some of its calls."""

    output = "spk"

    def __init__(self, loss=(), gradient=()):
        self.loss, self.gradient, self.calls = dict(loss), dict(gradient), 0

    def __call__(self, spk, labels):
        self.calls += 1
        loss, gradient = LOSS(spk, labels)
        gradient[0, 0, 0] = self.gradient.get(self.calls, gradient[0, 0, 0])
        return self.loss.get(self.calls, loss), gradient


def fitted(loss_fn, optimizer=None, net=None, **options):
    net = net or make_net()
    return net, snn.fit(net, data(), loss_fn, optimizer or optim.Adam(net), 2, batch_size=8, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_last_number_that_is_not_finite_is_found(dtype, bad):
    x, bounds, place = np.full(400, np.finfo(dtype).max, dtype), np.array([0, 16, 400]), np.zeros(1, np.int64)
    cpu.last_not_finite(x, bounds, place)
    assert place[0] == 0
    for index in (0, 7, 16, 399):
        x[index] = bad
        cpu.last_not_finite(x, bounds, place)
        assert place[0] == index + 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_with_its_step(bad):
    with pytest.raises(Diverged, match=rf"^epoch 2, step 3: the loss is {bad}; the training diverged"):
        fitted(Spoiled(loss={11: bad}))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_with_its_step_layer_and_array(clip):
    with pytest.raises(Diverged, match=r"^epoch 2, step 3: the gradient of 3\.recurrent\.bias holds nan; the training"):
        fitted(Spoiled(gradient={11: np.nan}), clip=clip)


def test_what_made_a_gradient_nan_is_named():
    net = make_net()
    net.parameters["2.bias"][1] = np.nan
    with pytest.raises(Diverged, match=r"^epoch 1, step 1: .*, since 2\.bias holds nan; the training diverged"):
        fitted(LOSS, net=net)


def test_the_net_is_as_it_was_before_the_step_that_stopped_it():
    net = make_net()
    snn.fit(net, data(), LOSS, optim.Adam(net), 1, batch_size=8)
    stopped = make_net()
    optimizer = optim.Adam(stopped)
    with pytest.raises(Diverged, match="epoch 2, step 1"):
        fitted(Spoiled(gradient={9: np.inf}), optimizer, stopped)
    np.testing.assert_array_equal(stopped.vector, net.vector)
    assert optimizer.steps == 8


def test_a_step_left_out_changes_nothing_and_is_counted(monkeypatch):
    net = make_net()
    optimizer, order = optim.Adam(net), datasets.Loader.order
    without = lambda self, epoch: order(self, epoch)[8:]  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(datasets.Loader, "order", without)
        patched.setattr(datasets.Loader, "__len__", lambda self: 7)
        expected = snn.fit(net, data(), LOSS, optimizer, 2, batch_size=8)
    for spoiled in (Spoiled(loss={1: np.nan, 9: np.inf}), Spoiled(gradient={1: np.nan, 9: np.inf})):
        other, history = fitted(spoiled, on_nan="skip")
        np.testing.assert_array_equal(other.vector, net.vector)
        assert np.flatnonzero(np.isnan(history.loss)).tolist() == [0, 8]
        assert history.skipped == 2
        assert history.epoch_loss == expected.epoch_loss
        assert history.accuracy == expected.accuracy


def test_an_epoch_of_which_nothing_is_left_stops():
    with pytest.raises(Diverged, match="epoch 1: every step was left out; the training diverged"):
        fitted(Spoiled(loss=dict.fromkeys(range(1, 9), np.nan)), on_nan="skip")


def test_a_weight_that_is_not_finite_at_the_end_of_an_epoch_stops():
    net = make_net()

    def spoil(history):
        if len(history.begun.losses) == 8:
            net.parameters["2.bias"][0] = np.inf

    with pytest.raises(Diverged, match=r"^epoch 1: 2\.bias is not finite any more; the training diverged"):
        fitted(LOSS, net=net, on_step=spoil)


def test_what_to_do_on_nan_must_be_known():
    with pytest.raises(ValueError, match='on_nan must be "stop" or "skip"; got \'go\''):
        fitted(LOSS, on_nan="go")


def test_steps_left_out_are_kept_in_a_file_and_counted_on(tmp_path):
    net = make_net()
    optimizer = optim.Adam(net)

    def stop(history):
        if len(history.begun.losses) == 3:
            checkpoint.save(tmp_path / "run.h5", net, optimizer, history, {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(Spoiled(loss={2: np.nan}), optimizer, net, on_nan="skip", on_step=stop)
    run = checkpoint.load(tmp_path / "run.h5")
    _, history = fitted(LOSS, run.optimizer, run.net, history=run.history)
    assert history.skipped == 1
    assert run.optimizer.steps == 15


@pytest.fixture
def spoiled(tmp_path, monkeypatch, capsys):
    """A data set in the working folder; losses of the command line are spoiled at their 12th call."""
    monkeypatch.chdir(tmp_path)
    datasets.save("dots.h5", train=data(), test=data(8), name="dots")
    monkeypatch.setattr(cli_train, "fit", lambda net, loader, loss_fn, *args, **options: snn.fit(
        net, loader, Spoiled(gradient={12: np.nan}), *args, **options))  # fmt: skip
    return ["train", "--data", "dots.h5", "--hidden", "8", "--num-steps", "5", "--batch-size", "8", "--epochs", "2"]


def test_the_command_line_names_the_place_and_keeps_the_last_good_run(spoiled, capsys):
    assert cli.main(spoiled) == 2
    err = capsys.readouterr().err
    assert "error: epoch 2, step 3: the gradient of 3.recurrent.bias holds nan; the training diverged" in err
    assert err.endswith("run.h5 is as it was after epoch 1; `snnumba train --resume run.h5` goes on\n")
    assert checkpoint.load("run.h5").history.epochs == 1


def test_the_command_line_leaves_steps_out_and_tells_how_many(spoiled, capsys):
    assert cli.main([*spoiled, "--on-nan", "skip"]) == 0
    assert "skipped    1 of 16 steps: their loss or gradients were not finite\n" in capsys.readouterr().out
    assert checkpoint.load("run.h5").settings["on_nan"] == "skip"


def test_a_layer_that_never_fires_is_warned_of_once():
    with pytest.warns(UserWarning, match="fired") as told:
        _, history = fitted(LOSS, net=make_net(threshold=1e3))
    assert history.rates["1"] == [0, 0]
    assert [str(warning.message) for warning in told if "layer 1" in str(warning.message)] == [
        "epoch 1: layer 1 never fired; lower its threshold, or raise the weights or the inputs before it"
    ]


def test_a_layer_that_always_fires_is_warned_of():
    with pytest.warns(UserWarning, match="epoch 1: layer 1 always fired; raise its threshold"):
        fitted(LOSS, net=make_net(threshold=-1e3))


def test_an_output_of_which_only_the_membranes_are_read_may_be_still():
    net = snn.Network(snn.Linear(6, 3), snn.Leaky(beta=0.9, threshold=1e3), num_steps=5, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(SF.mse_membrane_loss(on_target=1.05, off_target=0.2), net=net)


def test_the_command_line_warns_in_a_line(spoiled, capsys):
    cli.main([*spoiled, "--beta", "0", "--lr", "1e-9", "--on-nan", "skip"])
    assert re.search(r"^snnumba: warning: epoch 1: layer 3 never fired; ", capsys.readouterr().err, re.MULTILINE)
