"""Threads: the same bits whatever their number, and nothing breaks beside other threads and in forked children."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import snnumba as snn
from snnumba import functional as SF
from snnumba import optim
from snnumba.kernels.cpu import _threads, team
from snnumba.kernels.cpu._compile import kernel
from snnumba.kernels.cpu._program import load, store
from snnumba.kernels.cpu._threads import _Worker

pytestmark = pytest.mark.compiled


@kernel(lambda done, *_: done.shape[0], grain=16)
def mark(begin: int, end: int, done: np.ndarray, name: int, log: np.ndarray) -> None:
    """done + 1; in the log, under where the range begins, the names of the calls that came by: their last digits."""
    for k in range(begin, end):
        done[k] += 1
    log[begin] = 10 * log[begin] + name


@kernel(lambda done: done.shape[0])
def fail_late(begin: int, end: int, done: np.ndarray) -> None:
    """Fails where a range does not begin at 0."""
    if begin > 0:
        raise ArithmeticError
    done[begin] = 1


@kernel(lambda done, rounds: done.shape[0])
def count_up(begin: int, end: int, done: np.ndarray, rounds: int) -> None:
    """done = rounds, one by one."""
    for _ in range(rounds):
        for k in range(begin, end):
            done[k] += 1


@kernel(lambda words: 2)
def stay(begin: int, end: int, words: int) -> None:
    """Two ranges, each of which marks its word of three at an address, and goes on when the first is no longer 0."""
    store(words, begin + 1, 1)
    while load(words, 0) == 0:
        pass


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = snn.get_num_threads()
    yield
    snn.set_num_threads(before)


forking = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 warns: threads are here


def weights_after_training(seed: int = 0, batch: int = 150) -> np.ndarray:
    """The parameters of a net after three steps on a batch that no number of threads divides into equal parts."""
    net = snn.Network(
        snn.Linear(70, 130),
        snn.RLeaky(beta=0.9, linear_features=130, learn_beta=True, learn_threshold=True),
        snn.Linear(130, 10),
        snn.RLeaky(beta=0.9, linear_features=10),
        num_steps=6,
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    x, y = rng.random((batch, 70), np.float32) * 3, rng.integers(0, 10, batch)
    loss_fn, optimizer = SF.mse_count_loss(0.8, 0.2), optim.Adam(net)
    for _ in range(3):
        spk, _ = net.forward(x)
        net.backward(dspk=loss_fn(spk, y)[1])
        optimizer.step()
    assert 0 < net.firing_rates()["1"] < 1
    return net.vector.copy()


def test_threads_do_not_change_a_bit() -> None:
    results = []
    for threads in (1, 2, 3, 7):
        snn.set_num_threads(threads)
        assert snn.get_num_threads() == threads
        results.append(weights_after_training())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_every_item_is_done_once_in_ranges_that_begin_at_the_grain() -> None:
    for threads in (1, 2, 3, 5):
        snn.set_num_threads(threads)
        for items in (0, 1, 15, 16, 17, 100):
            done, log = np.zeros(items, int), np.zeros(items, int)
            mark(done, 1, log)
            assert (done == 1).all()
            begins = np.flatnonzero(log)
            assert all(begin % 16 == 0 for begin in begins)
            assert len(begins) == min(threads, -(-items // 16)) or items > 16 * threads


def test_kernels_that_go_together_are_each_done_in_order_at_the_end() -> None:
    snn.set_num_threads(3)
    done, log = np.zeros(48, int), np.zeros(48, int)
    with team.together():
        for name in (1, 2, 3):
            mark(done, name, log)
        assert not done.any()
    assert (done == 3).all()
    np.testing.assert_array_equal(log[log > 0], [123, 123, 123])


def test_as_many_kernels_go_together_as_one_likes() -> None:
    snn.set_num_threads(2)
    done, log = np.zeros(20, int), np.zeros(20, int)
    with team.together():
        for _ in range(1000):
            mark(done, 0, log)
    assert (done == 1000).all()


def test_kernels_collected_before_an_error_are_not_run() -> None:
    done, log = np.zeros(20, int), np.zeros(20, int)

    def collect() -> None:
        with team.together():
            mark(done, 1, log)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        collect()
    mark(done, 2, log)
    assert (done == 1).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_kernel_that_fails_is_told_and_the_team_goes_on(threads: int) -> None:
    snn.set_num_threads(threads)
    done = np.zeros(2, int)
    if threads == 2:
        with pytest.raises(RuntimeError, match="a kernel failed"):
            fail_late(done)
    fail_late(done[:1])
    assert done[0] == 1


def test_a_worker_that_ends_is_told_and_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(board: int, place: int) -> bool:
        raise MemoryError("none left")

    snn.set_num_threads(1)  # ends the workers there are
    snn.set_num_threads(2)
    done = np.zeros(2, int)
    with monkeypatch.context() as patch:
        patch.setattr(_threads, "_serve", ends)
        with pytest.raises(MemoryError, match="none left"):
            count_up(done, 1)
    count_up(done, 1)
    assert done[1] == 1


def test_workers_that_have_fallen_asleep_wake() -> None:
    snn.set_num_threads(2)
    done = np.zeros(2, int)
    for count, pause in enumerate((0.0, 0.05, 0.0, 0.05), 1):
        threading.Event().wait(pause)  # far longer than a worker watches
        count_up(done, 1)
        np.testing.assert_array_equal(done, [count, count])


def test_two_python_threads_train_at_once_to_the_same_bits() -> None:
    snn.set_num_threads(2)
    expected = {seed: weights_after_training(seed) for seed in (1, 2)}
    found: dict[int, np.ndarray] = {}

    def train(seed: int) -> None:
        for _ in range(5):
            found[seed] = weights_after_training(seed)
            assert np.array_equal(found[seed], expected[seed])

    threads = [threading.Thread(target=train, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.keys() == expected.keys()
    for seed, weights in expected.items():
        np.testing.assert_array_equal(found[seed], weights)


@forking
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_trains_to_the_same_bits(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    snn.set_num_threads(2)
    expected = weights_after_training()
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(weights_after_training).get(timeout=120)
    np.testing.assert_array_equal(found, expected)


@forking
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_child_forked_while_another_thread_is_inside_a_kernel_trains_to_the_same_bits() -> None:
    snn.set_num_threads(2)
    expected = {seed: weights_after_training(seed) for seed in (1, 2)}
    for _ in range(3):
        words = np.zeros(3, np.int64)
        thread = threading.Thread(target=stay, args=(words.ctypes.data,))
        thread.start()
        while not words[1:].all():
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # in case it hangs
            snn.set_num_threads(3)
            os._exit(0 if np.array_equal(weights_after_training(2), expected[2]) else 1)
        assert np.array_equal(weights_after_training(1), expected[1])  # alone, as the team is busy
        words[0] = 1
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_interrupt_at_any_moment_leaves_a_team_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    snn.set_num_threads(3)
    expected = weights_after_training()
    for method in (_Worker.ask, _Worker.wait):
        for moment in range(1, 8):
            calls = iter(range(1, 1000))

            def interrupted(
                worker: _Worker, *args: Any, method: Any = method, calls: Any = calls, at: int = moment
            ) -> None:
                if next(calls) == at:
                    raise KeyboardInterrupt
                method(worker, *args)

            with monkeypatch.context() as patch:
                patch.setattr(_Worker, method.__name__, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    weights_after_training()
            np.testing.assert_array_equal(weights_after_training(), expected)


def test_no_worker_goes_on_after_an_interrupt_has_been_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    snn.set_num_threads(3)

    def interrupted(worker: _Worker) -> None:
        raise KeyboardInterrupt

    done = np.zeros(3, int)
    monkeypatch.setattr(_Worker, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        count_up(done, 20_000_000)
    np.testing.assert_array_equal(done, [20_000_000] * 3)  # none was cut off, and all have ended


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 10**6])
def test_a_wrong_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(ValueError, match="threads must be an integer from 1 to 1024"):
        snn.set_num_threads(threads)  # type: ignore[arg-type]


def test_kernels_that_go_together_inside_others_are_done_at_the_end_of_those() -> None:
    done, log = np.zeros(20, int), np.zeros(20, int)
    with team.together():
        with team.together():
            mark(done, 1, log)
        assert not done.any()
    assert (done == 1).all()
