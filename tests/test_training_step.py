"""TrainingStep, and a net that runs for a record: replayed, to the bits of the calls that they stand for."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import snnumba as snn
from snnumba import functional as SF
from snnumba import optim, surrogate
from snnumba.guards import Diverged
from snnumba.kernels.cpu import _threads, team

pytestmark = pytest.mark.compiled  # without the JIT nothing is recorded

STEPS, BATCH = 5, 20


def dense(**options: Any) -> snn.Network:
    return snn.Network(
        snn.Linear(30, 70),
        snn.RLeaky(beta=0.9, linear_features=70, **options),
        snn.Linear(70, 4),
        snn.RLeaky(beta=0.9, linear_features=4),
        num_steps=STEPS,
        seed=0,
    )


def one_to_one() -> snn.Network:
    learnt = {"learn_beta": True, "learn_threshold": True}
    return snn.Network(
        snn.Linear(30, 4, bias=False), snn.RLeaky(beta=0.9, all_to_all=False, **learnt), num_steps=STEPS, seed=0
    )


def of_images() -> snn.Network:
    return snn.Network(
        snn.Conv2d(1, 3, 3, padding=1),
        snn.RLeaky(beta=0.9, conv2d_channels=3, kernel_size=3),
        snn.MaxPool2d(2),
        snn.Dropout(0.25),
        snn.Flatten(),
        snn.Linear(27, 4),
        snn.Leaky(beta=0.8, inhibition=True),
        num_steps=STEPS,
        seed=0,
    )


def of_cells() -> snn.Network:
    layers = snn.SLSTM(30, 16, threshold=0.1), snn.Linear(16, 4), snn.Leaky(beta=0.9, threshold=0.1)
    return snn.Network(*layers, num_steps=STEPS, seed=0)


def with_layers() -> snn.Network:
    fed_back = [snn.Linear(4, 3), snn.Leaky(beta=0.5), snn.Linear(3, 4)]
    return snn.Network(snn.Linear(30, 4), snn.RLeaky(beta=0.9, recurrent=fed_back), num_steps=STEPS, seed=0)


def in_windows() -> snn.Network:
    net = dense()
    net.checkpoint_every = 2
    return net


NETS = dense, one_to_one, of_images, of_cells, with_layers, in_windows


def batch(net: snn.Network, seed: int, size: int = BATCH, timed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sample = net.layers[0].in_shape or (1, 6, 6)
    x = rng.random((*([STEPS] if timed else []), size, *sample), np.float32) * 3
    return x * (rng.random(x.shape) < 0.5), rng.integers(0, 4, size)


def call_by_call(net: snn.Network, loss_fn: Any, optimizer: Any, x: np.ndarray, y: np.ndarray) -> float:
    spk, mem = net.forward(x)
    if loss_fn.output == "mem":
        loss, dmem = loss_fn(mem, y)
        net.backward(dmem=dmem)
    else:
        loss, dspk = loss_fn(spk, y)
        net.backward(dspk=dspk)
    optimizer.step()
    return float(loss)


class Pair:
    """Two nets alike: one trained by TrainingStep, one call by call."""

    def __init__(self, make: Callable[[], snn.Network] = dense, loss: Callable[[], Any] = SF.mse_count_loss) -> None:
        self.net, self.other = make(), make()
        self.loss_fn, self.other_loss = loss(), loss()
        self.optimizer, self.other_optimizer = optim.Adam(self.net, lr=0.01), optim.Adam(self.other, lr=0.01)
        self.step = snn.TrainingStep(self.net, self.loss_fn, self.optimizer)

    def check(self, x: np.ndarray, y: np.ndarray) -> None:
        """A step of both is the same."""
        loss = self.step(x, y)
        assert loss == call_by_call(self.other, self.other_loss, self.other_optimizer, x, y)
        np.testing.assert_array_equal(self.net.gradient_vector, self.other.gradient_vector)
        np.testing.assert_array_equal(self.net.vector, self.other.vector)
        assert self.net.firing_rates() == self.other.firing_rates()

    def check_several(self, begin: int = 0, count: int = 4, **options: Any) -> None:
        for seed in range(begin, begin + count):
            self.check(*batch(self.net, seed, **options))


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("make", NETS)
def test_a_step_is_the_calls_that_it_stands_for(make: Callable[[], snn.Network], timed: bool) -> None:
    pair = Pair(make)
    pair.check_several(timed=timed)
    assert np.any(pair.net.gradient_vector)
    pair.check_several(4, size=7, timed=timed)
    pair.check_several(8, timed=timed)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: SF.mse_count_loss(0.8, 0.2),
        lambda: SF.mse_membrane_loss(on_target=1.05, off_target=0.2),
        lambda: SF.mse_temporal_loss(),
        lambda: SF.ce_count_loss(),
        lambda: SF.ce_rate_loss(weight=np.arange(1.0, 5)),
        lambda: SF.ce_max_membrane_loss(reduction="sum"),
        lambda: SF.ce_temporal_loss(inverse="reciprocal"),
        lambda: SF.mse_count_loss(population_code=True, num_classes=2) + SF.l1_rate_sparsity(0.01),
    ],
)
def test_so_it_is_with_any_loss(loss: Callable[[], Any]) -> None:
    pair = Pair(loss=loss)
    for seed in range(4):
        x, y = batch(pair.net, seed)
        pair.check(x, y % 2)


def test_so_it_is_with_a_loss_of_the_users_own() -> None:
    class Own:
        output = "spk"

        def __call__(self, spk: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
            return float(spk.sum()), np.ones_like(spk)

    Pair(loss=Own).check_several()


def test_a_step_clips_gradients_where_it_is_asked_to() -> None:
    pair = Pair()
    pair.step = snn.TrainingStep(pair.net, pair.loss_fn, optim.SGD(pair.net, lr=1.0), clip=0.125)
    for seed in range(4):
        before = pair.net.vector.copy()
        pair.step(*batch(pair.net, seed))
        assert np.linalg.norm(pair.net.vector - before) <= 0.125 * 1.001


def set_learning_rate(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    optimizer.lr = 0.5


def set_loss(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    loss_fn.correct_rate = 0.5


def set_surrogate(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    net.layers[1].spike_grad = surrogate.fast_sigmoid()  # type: ignore[attr-defined]


def set_weights(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    net.load_state_dict({name: x / 2 for name, x in net.state_dict().items()})


def set_number_of_steps(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    net.num_steps = 3


def set_windows(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    net.checkpoint_every = 2


def carry_state(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    net.detach()


def run_it(net: snn.Network, loss_fn: Any, optimizer: optim.Adam) -> None:
    spk, _ = net.forward(np.ones((3, 30), np.float32))
    net.backward(dspk=spk)


@pytest.mark.parametrize(
    "change",
    [
        set_learning_rate,
        set_loss,
        set_surrogate,
        set_weights,
        set_number_of_steps,
        set_windows,
        carry_state,
        run_it,
    ],
)
def test_what_is_set_between_steps_counts_from_the_next_one_on(change: Callable[..., None]) -> None:
    pair = Pair(loss=lambda: SF.mse_count_loss(0.8, 0.2))
    pair.check_several()
    change(pair.net, pair.loss_fn, pair.optimizer)
    change(pair.other, pair.other_loss, pair.other_optimizer)
    pair.check_several(4)


def test_a_regularizer_set_between_steps_counts() -> None:
    pair = Pair(loss=lambda: SF.mse_count_loss(0.8, 0.2) + SF.l1_rate_sparsity(0.01))
    pair.check_several()
    for loss_fn in pair.loss_fn, pair.other_loss:
        loss_fn.regularizer.Lambda = 0.5
        loss_fn.loss_fn.correct_rate = 0.5
    pair.check_several(4)


def test_a_feedback_set_between_steps_counts() -> None:
    def make() -> snn.Network:
        layer = snn.RLeaky(beta=0.9, all_to_all=False, learn_recurrent=False)
        return snn.Network(snn.Linear(30, 4), layer, num_steps=STEPS, seed=0)

    pair = Pair(make)
    pair.check_several()
    for net in pair.net, pair.other:
        net.layers[1].V = np.linspace(-1, 1, 4)  # type: ignore[attr-defined]
    pair.check_several(4)


def test_dropout_is_off_in_a_step_of_a_net_that_is_not_trained() -> None:
    pair = Pair(of_images)
    pair.check_several()
    pair.net.eval()
    pair.other.eval()
    pair.check_several(4)


def test_two_steps_share_a_net() -> None:
    pair = Pair()
    second = snn.TrainingStep(pair.net, SF.mse_membrane_loss(), pair.optimizer)
    for seed in range(5):
        pair.check(*batch(pair.net, seed))
        x, y = batch(pair.net, seed + 10)
        loss = second(x, y)
        assert loss == call_by_call(pair.other, SF.mse_membrane_loss(), pair.other_optimizer, x, y)


def test_a_batch_may_lie_in_memory_in_any_way() -> None:
    pair = Pair()
    for seed in range(6):
        x, y = batch(pair.net, seed)
        laid_out = (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2])[seed % 3]
        pair.check(laid_out, [y.tolist(), y.astype(np.int8), y][seed % 3])


def test_the_number_of_threads_may_change_between_steps() -> None:
    pair, before = Pair(), snn.get_num_threads()
    try:
        for seed, threads in enumerate((2, 2, 2, 3, 1, 2, 3, 3)):
            snn.set_num_threads(threads)
            pair.check(*batch(pair.net, seed, size=60))
    finally:
        snn.set_num_threads(before)


def test_steps_of_two_nets_in_two_python_threads_are_those_of_each_alone() -> None:
    pairs = [Pair(), Pair()]
    threads = [threading.Thread(target=pair.check_several, kwargs={"count": 30, "size": 60}) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(pairs[0].net.vector, pairs[1].net.vector)
    assert pairs[0].optimizer.steps == pairs[1].optimizer.steps == 30


def test_after_an_interrupted_step_the_next_ones_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    before = snn.get_num_threads()
    snn.set_num_threads(2)
    try:
        pair = Pair()
        pair.check_several(size=60)
        with monkeypatch.context() as patch:
            patch.setattr(_threads._Worker, "ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pair.step(*batch(pair.net, 4, size=60))
        pair.check_several(4, size=60)
    finally:
        snn.set_num_threads(before)


def test_a_step_that_diverges_changes_no_weight() -> None:
    pair = Pair()
    pair.check_several()
    before, steps = pair.net.vector.copy(), pair.optimizer.steps
    x, y = batch(pair.net, 4)
    x[0, 0] = np.nan
    pair.net.layers[1].spike_grad = surrogate.custom_surrogate(lambda x: 0 * x)  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match=r"the gradient of .* holds nan"):
        pair.step(x, y)
    np.testing.assert_array_equal(pair.net.vector, before)
    assert pair.optimizer.steps == steps


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.ones((BATCH, 31), np.float32), np.zeros(BATCH, int), ValueError, r"x must be \(B, 30\); got \(20, 31\)"),
        (np.ones((BATCH, 30)), np.zeros(BATCH, int), TypeError, "x must be float32, .* got float64"),
        ([[1.0] * 30], [0], TypeError, "x must be a NumPy array; got list"),
        (np.ones((BATCH, 30), np.float32), np.zeros(BATCH - 1, int), ValueError, r"targets must be \(20,\)"),
        (np.ones((BATCH, 30), np.float32), np.full(BATCH, 4), ValueError, r"targets must lie in \[0, 4\)"),
        (np.ones((BATCH, 30), np.float32), np.zeros(BATCH), TypeError, "targets must be integers; got float64"),
    ],
)
def test_a_wrong_batch_is_refused_and_changes_nothing(after: int, x: Any, y: Any, error: Any, message: str) -> None:
    pair = Pair()
    pair.check_several(count=after)
    with pytest.raises(error, match=message):
        pair.step(x, y)
    pair.check_several(after)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 1}, TypeError, "net must be a Network; got int"),
        ({"loss_fn": SF.mse_count_loss}, TypeError, "loss_fn must be a loss"),
        ({"loss_fn": SF.mse_count_loss(reduction="none")}, ValueError, "loss_fn must give one number"),
        ({"optimizer": None}, ValueError, "optimizer must be one of this net; None is not"),
        ({"clip": 0}, ValueError, "clip must be a number above 0; got 0"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], error: Any, message: str) -> None:
    net = dense()
    right: dict[str, Any] = {"net": net, "loss_fn": SF.mse_count_loss(), "optimizer": optim.Adam(net)}
    with pytest.raises(error, match=message):
        snn.TrainingStep(**right | arguments)


RECORDS = "spikes", "membrane", "count"


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("make", NETS)
def test_what_a_net_records_again_and_again_is_what_its_outputs_are(
    make: Callable[[], snn.Network], record: str
) -> None:
    net, other = make().eval(), make().eval()
    kept = []
    for seed, size in enumerate((20, 20, 20, 7, 7, 7, 20, 20, 20)):
        x, _ = batch(net, seed, size=size)
        spk, mem = other.forward(x)
        kept.append((net.forward(x, record=record), {"spikes": spk, "membrane": mem, "count": spk.sum(0)}[record]))
    for got, want in kept:  # which all stay as they are
        np.testing.assert_array_equal(got, want)
    assert any(np.any(got) for got, _ in kept)


def test_what_is_set_between_two_records_counts() -> None:
    net, other = dense(), dense()
    x, _ = batch(net, 0)
    for _ in range(3):
        net.forward(x, record="membrane")
    for changed in net, other:
        changed.layers[1].reset_mechanism = "zero"  # type: ignore[attr-defined]
        changed.load_state_dict({name: x / 2 for name, x in changed.state_dict().items()})
    for _ in range(3):
        np.testing.assert_array_equal(net.forward(x, record="membrane"), other.forward(x)[1])


def test_a_record_begins_at_the_state_that_detach_left() -> None:
    net, other = dense(), dense()
    for seed in range(5):
        x, _ = batch(net, seed)
        _, mem = other.forward(x)
        np.testing.assert_array_equal(net.forward(x, record="membrane"), mem)
        net.forward(x)
        net.detach()
        other.forward(x)
        other.detach()


def test_a_recording_is_done_in_the_order_it_was_written_down() -> None:
    log: list[int] = []
    steps = team.record(lambda: [team.do(log.append, k) for k in range(3)] and None)
    assert log == []
    team.replay(steps)
    team.replay(steps)
    assert log == [0, 1, 2, 0, 1, 2]
