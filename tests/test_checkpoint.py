"""A run in a file: that every bit comes back, that a file is written whole or not at all, and what is refused."""

import json
import os

import h5py
import numpy as np
import pytest

import snnumba as snn
from snnumba import checkpoint, hdf5, optim, surrogate
from snnumba import functional as SF
from snnumba.datasets import Dataset, Loader
from snnumba.history import History, Tally

pytestmark = pytest.mark.filterwarnings("ignore:epoch 1. layer 3 never fired")


def plain_net(dtype="float32"):
    return snn.Network(
        snn.Linear(4, 6),
        snn.RLeaky(beta=0.9, linear_features=6),
        snn.Linear(6, 2),
        snn.RLeaky(beta=0.9, linear_features=2),
        num_steps=5,
        dtype=dtype,
        seed=0,
    )


def unusual_net(dtype="float32"):
    """Each argument other than its default."""
    return snn.Network(
        snn.Linear(4, 3, bias=False),
        snn.RLeaky(
            beta=[0.1, 0.2, 0.3],
            linear_features=3,
            threshold=0.7,
            spike_grad=surrogate.SFS(slope=12.5, B=0.5),
            learn_beta=True,
            learn_threshold=True,
            learn_recurrent=False,
            reset_mechanism="zero",
            reset_delay=False,
        ),
        snn.Linear(3, 2),
        snn.RLeaky(beta=[0.5], linear_features=2),
        num_steps=3,
        dtype=dtype,
        seed=1,
    )


def data():
    rng = np.random.default_rng(0)
    return Dataset(rng.integers(0, 256, (12, 2, 2)).astype(np.uint8), np.arange(12) % 2, name="dots")


def trained(net):
    """An optimizer and a history that are not as they were made."""
    optimizer = optim.Adam(net, lr=0.01, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.1)
    train = Dataset(data().images, data().labels, dtype=net.dtype)
    return optimizer, snn.fit(net, train, SF.mse_count_loss(), optimizer, 2, train, batch_size=4)


@pytest.fixture
def run_file(tmp_path):
    """The file of a run, that has begun another epoch."""
    net = plain_net()
    optimizer, history = trained(net)
    history.begun = Tally([0.5], samples=4, loss=2.0)
    checkpoint.save(tmp_path / "run.h5", net, optimizer, history, {"data": "dots"}, optim.StepLR(optimizer, 2))
    return tmp_path / "run.h5"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [plain_net, unusual_net])
def test_a_run_comes_back_to_the_bit(tmp_path, make, dtype):
    net = make(dtype)
    optimizer, history = trained(net)
    settings = {"data": "dots", "lr": 0.1, "note": "µ" * 100_000}  # more than an attribute of HDF5 holds in place
    checkpoint.save(tmp_path / "run.h5", net, optimizer, history, settings)
    run = checkpoint.load(tmp_path / "run.h5")

    assert run.net.config == net.config
    assert run.net.dtype == dtype
    for name, x in net.state_dict().items():
        np.testing.assert_array_equal(run.net.state_dict()[name], x, strict=True, err_msg=name)
    assert repr(run.optimizer) == repr(optimizer)
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(run.optimizer.state_dict()[name], x, strict=True, err_msg=name)
    np.testing.assert_array_equal(run.history.loss, history.loss, strict=True)
    assert vars(run.history) | {"loss": None} == vars(history) | {"loss": None}
    assert run.settings == settings
    assert run.versions["snnumba"] == snn.__version__


def test_a_run_that_was_never_trained_comes_back(tmp_path):
    net = plain_net()
    checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), {})
    run = checkpoint.load(tmp_path / "run.h5")
    assert (run.history.epochs, run.history.loss.size, run.optimizer.steps) == (0, 0, 0)


def test_training_goes_on_from_a_file_to_the_same_bits(tmp_path):
    whole = plain_net()
    snn.fit(whole, data(), SF.mse_count_loss(), optim.Adam(whole), 2, batch_size=4)

    first = plain_net()
    optimizer = optim.Adam(first)
    history = snn.fit(first, data(), SF.mse_count_loss(), optimizer, 1, batch_size=4)
    checkpoint.save(tmp_path / "run.h5", first, optimizer, history, {})
    run = checkpoint.load(tmp_path / "run.h5")
    loader = Loader(data(), 4)
    loader.epoch = run.history.epochs
    snn.fit(run.net, loader, SF.mse_count_loss(), run.optimizer, 1)

    np.testing.assert_array_equal(run.net.vector, whole.vector)


OPTIMIZERS = {
    "Adam": lambda net: optim.Adam(net, eps=1e-7),
    "AdamW": lambda net: optim.AdamW(net, betas=(0.8, 0.99)),
    "SGD": lambda net: optim.SGD(net, lr=0.1, momentum=0.9, nesterov=True),
}
SCHEDULES = {
    "no schedule": lambda optimizer: None,
    "StepLR": lambda optimizer: optim.StepLR(optimizer, 2, gamma=0.3),
    "CosineAnnealingLR": lambda optimizer: optim.CosineAnnealingLR(optimizer, 3, eta_min=1e-4),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_and_its_schedule_go_on_from_a_file_to_the_same_bits(tmp_path, optimizer, schedule):
    def train(optimizer, schedule, epochs):
        """The learning rates after each epoch of random gradients."""
        rates = []
        for _ in range(epochs):
            for g in optimizer.net.gradients.values():
                g[...] = np.random.default_rng(optimizer.steps).normal(size=g.shape)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            rates.append(optimizer.lr)
        return rates

    net = plain_net()
    its = OPTIMIZERS[optimizer](net)
    plan = SCHEDULES[schedule](its)
    train(its, plan, 3)  # a cosine of 3 epochs is at its end
    checkpoint.save(tmp_path / "run.h5", net, its, History(), {}, plan)
    run = checkpoint.load(tmp_path / "run.h5")

    assert type(run.optimizer) is type(its)
    assert repr(run.schedule) == repr(plan)
    assert train(run.optimizer, run.schedule, 3) == train(its, plan, 3)
    np.testing.assert_array_equal(run.net.vector, net.vector)


def test_a_save_in_place_of_another_leaves_one_file(run_file):
    net = unusual_net()
    checkpoint.save(run_file, net, *trained(net), {})
    assert checkpoint.load(run_file).net.config == net.config
    assert list(run_file.parent.iterdir()) == [run_file]


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", [(h5py.Group, "create_dataset"), (os, "fsync"), (os, "replace")])
def test_a_save_that_fails_leaves_the_file_before_and_nothing_else(run_file, monkeypatch, where):
    before = run_file.read_bytes()
    net = unusual_net()
    optimizer, history = trained(net)
    with monkeypatch.context() as patched:
        patched.setattr(*where, fail)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(run_file, net, optimizer, history, {})
    assert run_file.read_bytes() == before
    assert list(run_file.parent.iterdir()) == [run_file]


def test_a_save_on_a_full_disk_leaves_the_file_before_and_nothing_else(run_file):
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    before, net = run_file.read_bytes(), unusual_net()
    optimizer, history = trained(net)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(run_file, net, optimizer, history, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run_file.read_bytes() == before
    assert list(run_file.parent.iterdir()) == [run_file]


@pytest.mark.parametrize("settings", [{"out": object()}, {"lr": float("nan")}])
def test_settings_that_are_not_json_are_refused_before_anything_is_written(tmp_path, settings):
    net = plain_net()
    with pytest.raises((TypeError, ValueError)):
        checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), settings)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.h5"):
        checkpoint.load(tmp_path / "run.h5")


def test_a_file_that_is_not_hdf5_is_refused(tmp_path):
    (tmp_path / "run.h5").write_text("hello")
    with pytest.raises(ValueError, match="not a run: it is not an HDF5 file"):
        checkpoint.load(tmp_path / "run.h5")
    assert not checkpoint.is_run(tmp_path / "run.h5")


def test_a_data_set_is_not_a_run(tmp_path):
    snn.datasets.save(tmp_path / "data.h5", train=data(), test=data(), name="dots")
    with pytest.raises(ValueError, match="not a run: it holds test, train"):
        checkpoint.load(tmp_path / "data.h5")
    assert not checkpoint.is_run(tmp_path / "data.h5")


def changed(file, change):
    with h5py.File(file, "r+") as opened:
        change(opened)
    hdf5.seal(file)


def edited(attribute, **values):
    """Changes some entries of a JSON attribute."""

    def change(file):
        file.attrs[attribute] = json.dumps(json.loads(file.attrs[attribute]) | values)

    return change


def replaced(name, value):
    """Puts a value in place of an array."""

    def change(file):
        del file[name]
        file[name] = value

    return change


DAMAGED = {  # what was done to the file, and what is said
    "version": (lambda file: file.attrs.__setitem__("version", 1), "format version 1; this snnumba reads version 2"),
    "no attribute": (lambda file: file.attrs.__delitem__("net"), "net"),
    "not JSON": (lambda file: file.attrs.__setitem__("net", "{"), "Expecting property name"),
    "not an object": (
        lambda file: file.attrs.__setitem__("settings", "[1]"),
        r"settings must be a JSON object; got \[1\]",
    ),
    "a history of text": (replaced("history/loss", "all went well"), "history/loss must hold numbers; got object"),
    "a history of integers": (
        replaced("history/loss", [1, 2]),
        r"history/loss must be one row of float64; got int64 \(2,\)",
    ),
    "no weight": (lambda file: file.__delitem__("weights/0.weight"), r"state lacks 0\.weight"),
    "no weights": (lambda file: file.__delitem__("weights"), "no group /weights"),
    "no history": (lambda file: file.__delitem__("history/loss"), "no history/loss"),
    "no losses of the epoch begun": (lambda file: file.__delitem__("begun/losses"), "no begun/losses"),
    "one loss": (replaced("begun/losses", 0.5), r"begun/losses must be float64; got float64 \(\)"),
    "no optimizer state": (lambda file: file.__delitem__("optimizer/m"), "the optimizer's state lacks m"),
    "no known optimizer": (edited("optimizer", name="Lion"), "optimizer must be one of Adam, AdamW, SGD; got .*Lion"),
    "another optimizer": (edited("optimizer", name="SGD"), "optimizer must be SGD with lr, momentum, weight_decay"),
    "a wrong setting": (edited("optimizer", lr=-1.0), "lr must be at least 0 and finite; got -1.0"),
    "no known schedule": (edited("schedule", name=[]), "schedule must be one of StepLR, CosineAnnealingLR"),
    "half a schedule": (edited("schedule", state={"epochs": 1}), "the schedule's state lacks base_lr; it has epochs"),
    "another net": (edited("net", num_steps=0), "num_steps must be a positive integer; got 0"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_run_is_refused_with_the_reason(run_file, case):
    change, message = DAMAGED[case]
    changed(run_file, change)
    with pytest.raises(ValueError, match=rf"run\.h5: .*{message}"):
        checkpoint.load(run_file)


def test_a_changed_number_or_setting_is_damage(run_file):
    for name, change in ("weights/0.weight", None), ("settings", '{"data": "cats"}'):
        with h5py.File(run_file, "r+") as file:
            if change is None:
                file[name][0, 0] += 1
            else:
                file.attrs[name] = change
        with pytest.raises(
            ValueError, match=r"run\.h5: damaged, or changed since it was written: sha256 is .*, the file"
        ):
            checkpoint.load(run_file)
        hdf5.seal(run_file)
        checkpoint.load(run_file)


def test_a_new_name_is_on_the_disk_too(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda opened: (synced.append(os.fstat(opened)), fsync(opened)))
    net = plain_net()
    checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), {})
    assert [status.st_ino for status in synced] == [(tmp_path / "run.h5").stat().st_ino, tmp_path.stat().st_ino]


def test_what_killed_processes_left_is_cleared_away_and_what_living_ones_write_is_not(tmp_path):
    names = "run.h5.4194305", "run.h5.1", f"run.h5.{10**20}", "a.h5.4194305"  # Linux gives numbers up to 4194304
    paths = [tmp_path / f".{name}.part" for name in names]
    for path in paths:
        path.touch()
    net = plain_net()
    checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), {})
    assert [path.exists() for path in paths] == [False, True, True, True]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_run_cut_short_is_refused(run_file, share):
    content = run_file.read_bytes()
    run_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"run\.h5"):
        checkpoint.load(run_file)


@pytest.mark.parametrize("make", [plain_net, unusual_net])
def test_a_net_is_rebuilt_from_json(make):
    config = make().config
    assert snn.Network.from_config(json.loads(json.dumps(config))).config == config


LAYER = {"layer": "RLeaky", "beta": 0.9, "linear_features": 2}
SPIKE_GRAD = {"name": "atan", "a": 2.0, "b": 0.0}
WRONG = {  # a layer's config, and what is said
    "another layer": ({"layer": "Conv9"}, r"layer 0 must be one of .*Linear.*; got 'Conv9'"),
    "a layer that is a list": ({"layer": []}, r"layer 0 must be one of .*Linear.*; got \[\]"),
    "not a layer": (3, "layer 0 must be one of .*Linear.*; got None"),
    "a missing argument": ({"layer": "RLeaky", "beta": 0.9}, "layer 0, RLeaky: .*linear_features"),
    "an unknown argument": (LAYER | {"gamma": 1}, "layer 0, RLeaky: .*gamma"),
    "a wrong number": (LAYER | {"linear_features": -2}, "linear_features must be a positive integer; got -2"),
    "another surrogate": (LAYER | {"spike_grad": SPIKE_GRAD | {"name": "os.system"}}, "spike_grad must be one of atan"),
    "half a surrogate": (LAYER | {"spike_grad": {"name": "atan"}}, "spike_grad must have a, b, name; got 'name'"),
    "a surrogate of text": (LAYER | {"spike_grad": SPIKE_GRAD | {"a": "2"}}, "a and b of spike_grad must be finite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_config_that_cannot_be_built_is_refused(case):
    layer, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        snn.Network.from_config({"layers": [layer], "num_steps": 5, "dtype": "float32"})


def test_a_config_that_is_not_a_nets_is_refused():
    with pytest.raises(ValueError, match="the net's config must have dtype, layers, num_steps; got 'layers'"):
        snn.Network.from_config({"layers": []})
    with pytest.raises(ValueError, match="the net's config must have a list of layers; got 'all'"):
        snn.Network.from_config({"layers": "all", "num_steps": 5, "dtype": "float32"})


def test_layers_nested_too_deep_are_refused():
    layer = LAYER
    for _ in range(100):
        layer = {"layer": "RLeaky", "beta": 0.9, "recurrent": layer}
    with pytest.raises(ValueError, match=r"recurrent must not be nested more than .* deep"):
        snn.Network.from_config({"layers": [layer], "num_steps": 5, "dtype": "float32"})


def test_a_net_with_a_layer_of_another_kind_has_no_config():
    class Own(snn.Leaky):
        pass

    with pytest.raises(TypeError, match=r"layer 0 must be one of .* to have a config; got Leaky"):
        _ = snn.Network(Own(beta=0.9), num_steps=5).config
