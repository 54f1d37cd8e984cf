"""The jobs of the command line: their data, that a small net learns them, and that it does so better than a guess."""

import re

import numpy as np
import pytest

import snnumba as snn
from snnumba import memory, optim
from snnumba.tasks import TASKS, Task, spike_time, trajectory


def made(name, **settings):
    """A task, small enough for a test."""
    kind = TASKS[name]
    return kind(dict(kind.options) | {"seed": 0, "dtype": "float32", "samples": 256, "hidden": 32} | settings)


def trained(task, epochs, lr):
    """The net's figures on the test data before and after, and the history; lr falls to 0 along a cosine."""
    net = snn.Network(*task.layers(), num_steps=task["num_steps"], seed=0)
    before = snn.evaluate(net, task.test, task.loss_fn, metrics=task.metrics)
    optimizer = optim.Adam(net, lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, epochs)
    history = snn.fit(net, task.train, task.loss_fn, optimizer, epochs, batch_size=32, schedule=schedule)
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
        ({"num_steps": 1}, "num_steps must be at least 2; got 1"),
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


@pytest.mark.compiled
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


def test_a_higher_pulse_is_to_be_answered_sooner():
    x, times = spike_time.generate(num_train=2000, num_steps=20, dtype="float64")[0].batch(np.arange(2000))
    assert (x[1:] == 0).all()
    np.testing.assert_array_equal(times, np.rint(2 + 14 * (1 - x[0])))
    assert np.unique(times).tolist() == list(range(2, 17))


@pytest.mark.parametrize("num_steps", [3, 4, 10, 20, 101])
def test_no_spike_is_asked_for_where_a_silent_neuron_is_taken_to_fire(num_steps):
    first, last = spike_time.answers(num_steps)
    assert 0 <= first < last < num_steps - 1


def test_the_seed_draws_the_pulses():
    one, same, other = (spike_time.generate(seed=seed, num_train=6)[0].features for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"num_steps": 2}, "num_steps must be at least 3; got 2"),
        ({"num_steps": 2.5}, "num_steps must be a positive integer; got 2.5"),
        ({"num_test": 0}, "num_test must be a positive integer; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_pulses_that_cannot_be_drawn_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        spike_time.generate(**argument)


def test_spikes_are_timed_by_the_first_of_each_neuron():
    spk = np.zeros((10, 4, 1), np.float32)
    for sample, steps in enumerate([[3], [3, 5, 9], [5], []]):  # the last is silent: step 9
        spk[steps, sample] = 1
    times = np.full((4, 1), 3, np.float32)
    assert spike_time.on_time(spk, times) == 0.5
    assert spike_time.steps_off(spk, times) == (0 + 0 + 2 + 6) / 4


@pytest.mark.compiled
def test_a_small_net_learns_when_to_fire():
    task = made("spike-time")
    before, after, history = trained(task, epochs=30, lr=5e-3)
    times = task.test.targets
    guess = np.abs(times - np.median(task.train.targets)).mean()
    assert history.loss[0] > 0.04  # of an untrained net
    assert history.epoch_loss[-1] < history.loss[0] / 10
    assert after.metrics["steps_off"] < guess / 3  # no step that is the same for all samples is nearer than guess
    assert before.metrics["steps_off"] > guess - 0.1  # one that is told nothing of the samples does no better
    often = np.unique(times, return_counts=True)[1].max() / times.size
    assert after.metrics["on_time"] > 3 * often  # the same step for all is right for the most frequent one


def test_a_loss_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"loss must be one of .*count.*; got 'hinge'"):
        made("classification", data="digits", loss="hinge")


def test_spike_times_are_judged_beside_a_guess_that_sees_no_sample():
    task = made("spike-time", num_steps=20)
    assert task.described(task.test).endswith("to be answered by a spike, from step 2 to 16")
    label, said = task.verdict({"on_time": 0.5, "steps_off": 0.25})
    guess, off = (float(x) for x in re.search(r"always firing at step (\d+) would be (\S+) off", said).groups())
    assert label == "on time"
    assert said.startswith("50.00% of the test samples fire first at their step, and they are 0.25 steps off")
    assert off == pytest.approx(np.abs(task.test.targets - guess).mean(), abs=0.01)
    assert all(np.abs(task.train.targets - guess).mean() <= np.abs(task.train.targets - k).mean() for k in range(20))


def test_where_the_system_does_not_tell_its_memory_no_net_is_too_large_for_it(monkeypatch):
    def unknown(name):
        raise ValueError

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    memory.check_memory("this", 10**18)
    assert memory.default_memory() == 2**32
