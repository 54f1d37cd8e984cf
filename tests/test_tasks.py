"""The jobs of the command line: their data, that a small net learns them, and that it does so better than a guess."""

import numpy as np
import pytest

import snnumba as snn
from snnumba import optim
from snnumba.tasks import TASKS, Task, trajectory


def made(name, **settings):
    """A task, small enough for a test."""
    kind = TASKS[name]
    return kind(dict(kind.options) | {"seed": 0, "dtype": "float32", "samples": 256, "hidden": 32} | settings)


def trained(task, epochs, lr):
    """The net's figures on the test data before and after, and the history."""
    net = snn.Network(*task.layers(), num_steps=task["num_steps"], seed=0)
    before = snn.evaluate(net, task.test, task.loss_fn, metrics=task.metrics)
    history = snn.fit(net, task.train, task.loss_fn, optim.Adam(net, lr=lr), epochs, batch_size=32)
    return before, snn.evaluate(net, task.test, task.loss_fn, metrics=task.metrics), history


def test_a_trajectory_is_a_ramp_or_the_root_of_one():
    x, y = trajectory.generate(num_train=20, num_steps=11, mode="linear", dtype="float64")[0].batch(np.arange(20))
    np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(np.diff(x, axis=0), np.broadcast_to(x[-1:] / 10, (10, 20, 1)), rtol=1e-12)  # rounding
    assert (x[0] == 0).all()
    assert (x[-1] > 0).all()
    assert (x[-1] < 1).all()
    same, root = trajectory.generate(num_train=20, num_steps=11, mode="sqrt", dtype="float64")[0].batch(np.arange(20))
    np.testing.assert_array_equal(same, x)
    slope = root[1:] ** 2 / x[1:]
    np.testing.assert_allclose(slope, slope[0, 0, 0], rtol=1e-12)  # one for all; rounding


def test_the_seed_draws_the_trajectories_and_a_split_does_not_depend_on_the_other():
    train, test = trajectory.generate(seed=5, num_train=6, num_test=4)
    again, longer = trajectory.generate(seed=5, num_train=6, num_test=9)
    other, _ = trajectory.generate(seed=6, num_train=6)
    np.testing.assert_array_equal(train.features, again.features)
    np.testing.assert_array_equal(test.targets, longer.targets[:, :4])
    assert not np.array_equal(train.features, other.features)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"mode": "cubic"}, "mode must be one of linear, sqrt; got 'cubic'"),
        ({"num_steps": 0}, "num_steps must be a positive integer; got 0"),
        ({"num_train": 0}, "num_train must be a positive integer; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"dtype": "int8"}, 'dtype must be "float32" or "float64"'),
    ],
)
def test_trajectories_that_cannot_be_drawn_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        trajectory.generate(**argument)


@pytest.mark.parametrize("name", TASKS)
def test_the_memory_of_a_net_is_reckoned_from_its_parameters(name, monkeypatch):
    task, seen = made(name, data="digits", correct_rate=1, incorrect_rate=0), []
    monkeypatch.setattr(Task, "_check_memory", lambda self, parameters, neurons: seen.append((parameters, neurons)))
    net = snn.Network(*task.layers(), num_steps=task["num_steps"])
    ((parameters, neurons),) = seen
    assert parameters == sum(x.size for x in net.parameters.values())
    assert neurons >= task["hidden"]


@pytest.mark.parametrize("mode", trajectory.MODES)
def test_a_small_net_learns_to_follow_a_trajectory(mode):
    task = made("trajectory", mode=mode)
    before, after, history = trained(task, epochs=30, lr=3e-3)
    targets = task.test.targets
    guess = np.abs(targets - task.train.targets.mean(axis=1, keepdims=True)).mean()
    assert history.loss[0] > 0.03  # of an untrained net
    assert history.epoch_loss[-1] < history.loss[0] / 10
    assert after.metrics["error"] < before.metrics["error"] / 3  # as the square of it falls by 10
    assert after.metrics["error"] < guess / 2  # no trajectory that is the same for all samples comes nearer than guess
