"""A run that is stopped and gone on with has the bits of one that never was."""

import h5py
import numpy as np
import pytest

import snnumba as snn
from snnumba import checkpoint, hdf5, optim
from snnumba import functional as SF
from snnumba.datasets import Dataset, Loader
from snnumba.history import History

EPOCHS = 3


class Stopped(Exception):
    """The end of a process, in place of it."""


@pytest.fixture
def threads():
    """Sets the number of threads, for this test."""
    before = snn.get_num_threads()
    yield snn.set_num_threads
    snn.set_num_threads(before)


def data(samples=150, seed=0):
    rng = np.random.default_rng(seed)
    return Dataset(rng.integers(0, 256, (samples, 2, 3)).astype(np.uint8), np.arange(samples) % 3)


def make_net():
    """With Dropout between layers, and inside of the feedback of one."""
    feedback = [snn.Linear(8, 4), snn.Dropout(0.5), snn.Linear(4, 8)]
    return snn.Network(
        snn.Linear(6, 8),
        snn.RLeaky(beta=0.9, threshold=0.3, recurrent=feedback),
        snn.Dropout(0.3),
        snn.Linear(8, 3),
        snn.RLeaky(beta=0.8, linear_features=3, threshold=0.3, learn_beta=True),
        num_steps=5,
        seed=4,
    )


OPTIMIZERS = {
    "Adam": lambda net: optim.Adam(net, lr=0.01),
    "SGD": lambda net: optim.SGD(net, lr=0.1, momentum=0.9, nesterov=True),
}


def fitted(net, optimizer, schedule, drop_last, **options):
    """The history of a training of 3 epochs, of 9 or 10 steps each, on a loader of its own."""
    loader = Loader(data(), 16, seed=7, drop_last=drop_last)
    options |= {"validation": data(20, seed=1), "schedule": schedule, "clip": 1.0}
    return snn.fit(net, loader, SF.mse_count_loss(0.8, 0.2), optimizer, EPOCHS, **options)


def stopped_at(path, when, optimizer, drop_last):
    """A run in a file, stopped and saved after so many steps in all."""
    net = make_net()
    made = OPTIMIZERS[optimizer](net)
    schedule = optim.StepLR(made, 1, 0.5)

    def stop(history):
        if made.steps == when:
            checkpoint.save(path, net, made, history, {}, schedule)
            raise Stopped

    with pytest.raises(Stopped):
        fitted(net, made, schedule, drop_last, on_step=stop)


def assert_same(run, net, optimizer, history):
    """That weights, optimizer, random numbers to come and history are the same, seconds aside."""
    np.testing.assert_array_equal(run.net.vector, net.vector, strict=True)
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(run.optimizer.state_dict()[name], x, strict=True, err_msg=name)
    for name, x in net.random_state().items():
        np.testing.assert_array_equal(run.net.random_state()[name], x, strict=True, err_msg=name)
    assert repr(run.optimizer) == repr(optimizer)
    np.testing.assert_array_equal(run.history.loss, history.loss, strict=True)
    aside = {"loss": None, "seconds": None}
    assert vars(run.history) | aside == vars(history) | aside
    assert len(run.history.seconds) == len(history.seconds)


@pytest.mark.compiled
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("when", [1, 9, 13])
def test_a_run_stopped_amid_an_epoch_goes_on_to_the_same_bits(tmp_path, threads, when, optimizer, drop_last, number):
    threads(2)
    net = make_net()
    made = OPTIMIZERS[optimizer](net)
    history = fitted(net, made, optim.StepLR(made, 1, 0.5), drop_last)
    assert set(net.random_state()) == {"1.2", "2.0"}

    threads(number)
    stopped_at(tmp_path / "run.h5", when, optimizer, drop_last)
    run = checkpoint.load(tmp_path / "run.h5")
    assert run.optimizer.steps == when
    fitted(run.net, run.optimizer, run.schedule, drop_last, history=run.history)
    assert_same(run, net, made, history)


def as_of_the_other_byte_order(path):
    """Write a run anew as a machine does whose numbers have their bytes the other way round."""
    with h5py.File(path, "r+") as file:
        arrays = {}
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        swapped = 0
        for name, stored in arrays.items():
            if stored.dtype.kind in "fiu" and stored.dtype.itemsize > 1:
                values, attributes = stored[()], dict(stored.attrs)
                del file[name]
                file[name] = np.asarray(values, values.dtype.newbyteorder(">"))
                file[name].attrs.update(attributes)
                assert file[name].dtype.byteorder == ">"
                swapped += 1
    assert swapped > 10
    hdf5.seal(path)


@pytest.mark.compiled
def test_a_run_saved_on_a_machine_of_the_other_byte_order_goes_on_to_the_same_bits(tmp_path):
    net = make_net()
    made = OPTIMIZERS["Adam"](net)
    history = fitted(net, made, optim.StepLR(made, 1, 0.5), True)
    stopped_at(tmp_path / "run.h5", 13, "Adam", True)
    as_of_the_other_byte_order(tmp_path / "run.h5")
    run = checkpoint.load(tmp_path / "run.h5")
    fitted(run.net, run.optimizer, run.schedule, True, history=run.history)
    assert_same(run, net, made, history)


@pytest.mark.compiled
def test_a_run_stopped_at_each_of_its_steps_goes_on_to_the_same_bits(tmp_path):
    net = make_net()
    made = OPTIMIZERS["Adam"](net)
    history = fitted(net, made, optim.StepLR(made, 1, 0.5), True)

    stopped_at(tmp_path / "run.h5", 1, "Adam", True)
    stops = 0
    while True:
        run = checkpoint.load(tmp_path / "run.h5")

        def stop(history, run=run, before=run.optimizer.steps):
            if run.optimizer.steps > before:
                checkpoint.save(tmp_path / "run.h5", run.net, run.optimizer, history, {}, run.schedule)
                raise Stopped

        try:
            fitted(run.net, run.optimizer, run.schedule, True, history=run.history, on_step=stop)
        except Stopped:
            stops += 1
            continue
        break
    assert stops == EPOCHS * 9 - 1
    assert_same(run, net, made, history)


def test_more_epochs_go_on_where_a_run_ended(tmp_path):
    whole = make_net()
    snn.fit(whole, data(), SF.mse_count_loss(), optim.Adam(whole), 4, batch_size=16)

    net = make_net()
    optimizer = optim.Adam(net)
    history = snn.fit(net, data(), SF.mse_count_loss(), optimizer, 2, batch_size=16)
    checkpoint.save(tmp_path / "run.h5", net, optimizer, history, {})
    run = checkpoint.load(tmp_path / "run.h5")
    again = snn.fit(run.net, data(), SF.mse_count_loss(), run.optimizer, 4, batch_size=16, history=run.history)
    assert again is run.history
    assert again.epochs == 4
    np.testing.assert_array_equal(run.net.vector, whole.vector)


def test_what_is_not_finite_is_not_saved(tmp_path):
    net = make_net()
    checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), {})
    before = (tmp_path / "run.h5").read_bytes()
    net.parameters["3.weight"][0, 0] = np.inf
    with pytest.raises(ValueError, match=r"the run is not saved: weights/3\.weight is not finite"):
        checkpoint.save(tmp_path / "run.h5", net, optim.Adam(net), History(), {})
    assert (tmp_path / "run.h5").read_bytes() == before


REFUSED = {  # what of a history does not fit, and what is said
    "epochs": (History(loss=np.zeros(18), seconds=[1.0, 1.0]), "epochs must be more than the 2 of the history; got 2"),
    "steps": (History(loss=np.zeros(7), seconds=[1.0]), "history must have 9 steps an epoch, .*; got 7 steps in 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_history_of_another_run_is_refused(case):
    history, message = REFUSED[case]
    net = make_net()
    with pytest.raises(ValueError, match=message):
        snn.fit(net, data(), SF.mse_count_loss(), optim.Adam(net), 2, batch_size=16, history=history)


def test_random_numbers_of_another_net_are_refused():
    net = make_net()
    with pytest.raises(ValueError, match=r"the random state must be that of the layers 1\.2, 2\.0; got 2\.0"):
        net.load_random_state({"2.0": np.zeros(2, np.uint64)})
    with pytest.raises(ValueError, match=r"the random state of 2\.0 must be \(2,\) uint64; got int64 \(2,\)"):
        net.load_random_state(net.random_state() | {"2.0": np.zeros(2, np.int64)})
