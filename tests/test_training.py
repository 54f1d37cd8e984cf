"""fit and evaluate: that a net learns, what is repeated to the bit, what is counted, and what is refused."""

from functools import partial

import numpy as np
import pytest
import tqdm
from memory import taken

import snnumba as snn
from snnumba import digits, optim, training
from snnumba import functional as SF
from snnumba.datasets import Dataset, Loader
from snnumba.history import History, Tally
from snnumba.regression import RegressionDataset
from snnumba.steps import HostSteps


@pytest.fixture(scope="module")
def splits():
    return digits.generate(num_train=1000, num_test=310)


@pytest.fixture
def threads():
    """Sets the number of threads, for this test."""
    before = snn.get_num_threads()
    yield snn.set_num_threads
    snn.set_num_threads(before)


def tutorial_net(hidden=32, num_steps=8, inputs=784, outputs=10, dtype="float32", checkpoint_every=None):
    return snn.Network(
        snn.Linear(inputs, hidden),
        snn.RLeaky(beta=0.9, linear_features=hidden),
        snn.Linear(hidden, outputs),
        snn.RLeaky(beta=0.9, linear_features=outputs),
        num_steps=num_steps,
        dtype=dtype,
        seed=0,
        checkpoint_every=checkpoint_every,
    )


def count_loss():
    return SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)


def trained(splits, epochs=2, **options):
    """A net and the history of its training."""
    net = tutorial_net()
    history = snn.fit(net, splits[0], count_loss(), optim.Adam(net, lr=3e-3), epochs, splits[1], **options)
    return net, history


@pytest.mark.compiled
@pytest.mark.parametrize("loss_fn", [count_loss(), SF.mse_membrane_loss(on_target=1.05, off_target=0.2)])
def test_a_small_net_learns_the_digits(splits, loss_fn):
    net = tutorial_net()
    before = snn.evaluate(net, splits[1], loss_fn)
    snn.fit(net, splits[0], loss_fn, optim.Adam(net, lr=3e-3), epochs=5, batch_size=32)
    after = snn.evaluate(net, splits[1], loss_fn)
    assert before.accuracy < 0.25  # chance is 0.1, and ten classes are drawn alike often
    assert after.accuracy > 0.4
    assert after.loss < before.loss


@pytest.mark.compiled
def test_the_same_seed_gives_the_same_bits(splits):
    (net, history), (again, same) = trained(splits, seed=3), trained(splits, seed=3)
    np.testing.assert_array_equal(net.vector, again.vector)
    np.testing.assert_array_equal(history.loss, same.loss)
    assert history.rates == same.rates


@pytest.mark.compiled
def test_another_seed_gives_another_order(splits):
    (_, history), (_, other) = trained(splits, 1, seed=3), trained(splits, 1, seed=4)
    assert history.loss[0] != other.loss[0]


@pytest.mark.compiled
@pytest.mark.parametrize("number", [1, 2, 3])
def test_threads_do_not_change_a_bit(splits, threads, number):
    threads(1)
    net, history = trained(splits)
    threads(number)
    again, same = trained(splits)
    np.testing.assert_array_equal(net.vector, again.vector)
    assert history.validation_loss == same.validation_loss


@pytest.mark.compiled
def test_fit_is_the_loop_written_out(splits):
    net, history = trained(splits, 2, batch_size=100, seed=1)

    ours = tutorial_net()
    loss_fn, optimizer, loader = count_loss(), optim.Adam(ours, lr=3e-3), Loader(splits[0], 100, seed=1)
    losses, accuracy, rates = [], [], []
    for _ in range(2):
        for x, y in loader:
            spk, _ = ours.forward(x)
            loss, dspk = loss_fn(spk, y)
            losses.append(loss)
            accuracy.append(SF.accuracy_rate(spk, y))
            rates.append(ours.firing_rates()["1"])
            ours.backward(dspk=dspk)
            optimizer.step()

    np.testing.assert_array_equal(net.vector, ours.vector)
    np.testing.assert_array_equal(history.loss, losses)
    assert history.accuracy == pytest.approx([np.mean(accuracy[:10]), np.mean(accuracy[10:])])
    assert history.rates["1"] == pytest.approx([np.mean(rates[:10:8]), np.mean(rates[10::8])])


@pytest.mark.compiled
def test_a_loader_goes_on_at_its_own_epoch(splits):
    whole, _ = trained(splits, 2)
    net = tutorial_net()
    loader, optimizer = Loader(splits[0]), optim.Adam(net, lr=3e-3)
    for _ in range(2):
        snn.fit(net, loader, count_loss(), optimizer, 1)
    np.testing.assert_array_equal(net.vector, whole.vector)


@pytest.mark.compiled
def test_a_schedule_is_stepped_after_each_epoch(splits):
    net = tutorial_net()
    optimizer = optim.Adam(net, lr=0.008)
    schedule, rates = optim.StepLR(optimizer, step_size=1, gamma=0.5), []
    snn.fit(
        net, splits[0], count_loss(), optimizer, 3, schedule=schedule, on_epoch=lambda *_: rates.append(optimizer.lr)
    )
    assert rates == [0.004, 0.002, 0.001]
    assert schedule.epochs == 3


@pytest.mark.compiled
def test_a_clipped_step_goes_no_further_than_the_norm_allows(splits):
    net = tutorial_net()
    before, clip, lr = net.vector.copy(), 1e-3, 0.5
    one = Loader(Dataset(splits[0].images[:128], splits[0].labels[:128]), 128)
    snn.fit(net, one, count_loss(), optim.SGD(net, lr=lr), 1, clip=clip)
    assert np.linalg.norm(net.vector - before) == pytest.approx(lr * clip, rel=1e-2)  # 1e-6 is added to the norm


@pytest.mark.compiled
def test_history_has_a_loss_a_step_and_the_rest_an_epoch(splits):
    _, history = trained(splits, 3, batch_size=300)
    assert history.epochs == 3
    assert history.loss.shape == (9,)  # 1000 samples are 3 batches of 300, and the last, short one is dropped
    assert history.loss.dtype == np.float64
    assert history.epoch_loss == pytest.approx(history.loss.reshape(3, 3).mean(1))
    assert list(history.rates) == ["1", "3"]
    for each in (history.accuracy, history.validation_accuracy, *history.rates.values()):
        assert len(each) == 3
        assert all(0 < value < 1 for value in each)
    assert len(history.validation_loss) == len(history.seconds) == 3


@pytest.mark.compiled
def test_history_has_no_validation_without_a_set_for_it(splits):
    net = tutorial_net()
    history = snn.fit(net, splits[0], count_loss(), optim.Adam(net), 1)
    assert history.validation_loss == history.validation_accuracy == []


@pytest.mark.compiled
def test_validation_in_fit_is_what_evaluate_says(splits):
    net, history = trained(splits, 2)
    result = snn.evaluate(net, splits[1], count_loss())
    assert (history.validation_accuracy[-1], history.validation_loss[-1]) == (result.accuracy, result.loss)


@pytest.mark.compiled
def test_each_epoch_is_told_when_it_has_ended(splits):
    told = []
    trained(splits, 2, on_epoch=lambda epoch, history: told.append((epoch, len(history.validation_accuracy))))
    assert told == [(1, 1), (2, 2)]


@pytest.mark.compiled
@pytest.mark.parametrize("batch_size", [1, 100, 128, 310, 5000])
def test_evaluate_counts_every_sample(splits, batch_size):
    net, _ = trained(splits, 1)
    x, y = splits[1].batch(np.arange(310))
    spk, _ = net.forward(x)
    result = snn.evaluate(net, splits[1], count_loss(), batch_size)
    assert result.samples == 310
    assert result.accuracy == SF.accuracy_rate(spk, y)
    assert result.loss == pytest.approx(count_loss()(spk, y)[0], rel=1e-6)  # sums of another order, in float32
    assert result.rates["3"] == pytest.approx(spk.mean(), rel=1e-6)


@pytest.mark.compiled
def test_evaluate_without_a_loss_reports_none(splits):
    net = tutorial_net()
    result, with_loss = snn.evaluate(net, splits[1]), snn.evaluate(net, splits[1], count_loss())
    assert result.loss is None
    assert result.accuracy == with_loss.accuracy


@pytest.mark.compiled
def test_evaluate_reads_membranes_for_a_loss_of_membranes(splits):
    net, _ = trained(splits, 1)
    x, y = splits[1].batch(np.arange(310))
    _, mem = net.forward(x)
    assert snn.evaluate(net, splits[1], SF.mse_membrane_loss()).accuracy == SF.accuracy_membrane(mem, y)


def ramps(samples=10, num_steps=8, **options):
    """Inputs that rise, and membranes that are to rise half as far."""
    features = np.linspace(0, 1, num_steps)[:, None, None] * np.linspace(0.1, 1, samples)[:, None]
    return RegressionDataset(features, features / 2, **options)


def membrane_net(num_steps=8):
    return snn.Network(
        snn.Linear(1, 6), snn.Leaky(beta=0.5, threshold=0.2), snn.Linear(6, 1),
        snn.Leaky(beta=0.5, reset_mechanism="none"), num_steps=num_steps, seed=0,
    )  # fmt: skip


def error(mem, targets):
    return float(np.abs(mem - targets).mean())


def test_a_net_is_fitted_to_targets_over_time():
    net, loss_fn = membrane_net(), SF.mse_membrane_loss(time_var_targets=True)
    before = snn.evaluate(net, ramps(), loss_fn)
    history = snn.fit(net, ramps(40), loss_fn, optim.Adam(net, lr=0.02), 10, ramps(), batch_size=8)
    assert history.validation_loss[-1] < before.loss / 4  # what is there to reach is 0; half the error remains at 1/4
    assert history.accuracy == history.validation_accuracy == []
    assert before.accuracy is None


@pytest.mark.parametrize("batch_size", [1, 4, 10, 50])
def test_a_metric_is_a_mean_over_the_samples(batch_size):
    net, loss_fn = membrane_net(), SF.mse_membrane_loss(time_var_targets=True)
    _, mem = net.forward(ramps().features)
    result = snn.evaluate(net, ramps(), loss_fn, batch_size, metrics={"error": error})
    assert result.samples == 10
    assert result.metrics == pytest.approx({"error": error(mem, ramps().targets)}, rel=1e-6)  # another order of sums


@pytest.mark.compiled
def test_metrics_are_kept_of_each_epoch_beside_accuracy(splits):
    def silent(spk, labels):
        return float((spk.sum((0, 2)) == 0).mean())

    net = tutorial_net()
    history = snn.fit(net, splits[0], count_loss(), optim.Adam(net), 2, splits[1], metrics={"silent": silent})
    assert len(history.metrics["silent"]) == len(history.accuracy) == 2
    result = snn.evaluate(net, splits[1], count_loss(), metrics={"silent": silent})
    assert history.validation_metrics["silent"][-1] == result.metrics["silent"]


@pytest.mark.parametrize(
    ("train", "loss_fn", "kind", "message"),
    [
        (ramps(num_steps=7), SF.mse_membrane_loss(True), ValueError, "train must have 8 steps, as the net; got 7"),
        (
            RegressionDataset(np.zeros((6, 1)), np.zeros((6, 3))),
            SF.mse_temporal_loss(True),
            ValueError,
            "train must have 1 targets, one for each output of the net; got 3",
        ),
        (ramps(), SF.mse_count_loss(), TypeError, "targets must be integers; got float32"),
        (RegressionDataset(np.zeros((6, 1)), np.zeros((6, 1))), SF.mse_membrane_loss(True), ValueError, r"\(8, 2, 1\)"),
    ],
)
def test_targets_that_do_not_fit_net_or_loss_are_refused_before_anything_is_changed(train, loss_fn, kind, message):
    net = membrane_net()
    before = net.vector.copy()
    with pytest.raises(kind, match=message):
        snn.fit(net, train, loss_fn, optim.Adam(net), batch_size=2)
    np.testing.assert_array_equal(net.vector, before)


@pytest.mark.compiled
def test_training_that_diverges_is_stopped_before_it_is_saved(splits):
    net, told = tutorial_net(), []
    with (
        pytest.raises(ValueError, match=r"epoch 1: 0\.weight is not finite any more; the training diverged"),
        np.errstate(all="ignore"),
    ):
        snn.fit(
            net,
            splits[0],
            count_loss(),
            optim.Adam(net, lr=1e38),
            2,
            on_epoch=lambda epoch, history: told.append(epoch),
        )
    assert not told


@pytest.mark.compiled
@pytest.mark.parametrize("regularizer", [None, SF.l1_rate_sparsity()])
def test_a_population_code_is_read_as_one(splits, regularizer):
    loss_fn = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2, population_code=True, num_classes=10)
    net = tutorial_net(outputs=50)
    snn.fit(net, splits[0], loss_fn, optim.Adam(net, lr=3e-3), epochs=3, batch_size=32)
    images, labels = splits[1].batch(np.arange(len(splits[1])))
    spk, _ = net.forward(images)
    read = SF.accuracy_rate(spk, labels, population_code=True, num_classes=10)
    assert read > 0.3 > SF.accuracy_rate(spk, labels)  # chance is 0.1; 50 neurons are not the 10 classes
    assert snn.evaluate(net, splits[1], loss_fn if regularizer is None else loss_fn + regularizer).accuracy == read


@pytest.mark.compiled
def test_evaluate_changes_no_weight(splits):
    net = tutorial_net()
    before = net.vector.copy()
    snn.evaluate(net, splits[1], count_loss())
    np.testing.assert_array_equal(net.vector, before)


# Bytes of Python's own objects and of the checks of 128 labels. The smallest work array, the gradient of the loss, has
# 51,200.
SMALL = 32_000


@pytest.mark.compiled
@pytest.mark.parametrize("checkpoint_every", [None, 4])
@pytest.mark.parametrize("loss_fn", [count_loss(), SF.mse_membrane_loss(on_target=1.05, off_target=0.2)])
def test_a_training_step_after_the_first_allocates_no_array(splits, loss_fn, checkpoint_every):
    net = tutorial_net(hidden=128, num_steps=10, checkpoint_every=checkpoint_every)
    measures = training._measures(splits[0], loss_fn, None)
    steps, indices = HostSteps(net, splits[0], loss_fn, measures, 128, optim.Adam(net)), np.arange(128)
    net.forward(splits[0].batch(indices)[0])
    assert net.layers[1].mem[:1].nbytes > 2 * SMALL  # so that one array more would be seen
    assert taken(lambda: list(steps.run(indices))) < SMALL


@pytest.mark.compiled
def test_a_training_step_on_targets_over_time_allocates_no_array():
    data, net, loss_fn = ramps(256, num_steps=200), membrane_net(num_steps=200), SF.mse_membrane_loss(True)
    steps, indices = HostSteps(net, data, loss_fn, {}, 256, optim.Adam(net)), np.arange(256)
    small = 2 * SMALL  # NumPy 1.26 takes 33,000 to convert numbers as it adds them
    assert data.batch(indices)[1].nbytes > 3 * small  # so that one array more would be seen
    assert taken(lambda: list(steps.run(indices))) < small


@pytest.mark.compiled
def test_evaluate_allocates_one_batch_however_many_there_are(splits):
    net = tutorial_net(hidden=128, num_steps=10)
    x, y = splits[1].batch(np.arange(100))
    assert taken(lambda: snn.evaluate(net, splits[1], count_loss(), 100), times=2) < x.nbytes + y.nbytes + SMALL


@pytest.mark.compiled
def test_progress_is_silent_where_nobody_watches(splits, capsys):
    trained(splits, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.compiled
def test_progress_shows_loss_and_accuracy_when_asked_for(splits, capsys, monkeypatch):
    monkeypatch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, mininterval=0))  # the epoch is over sooner
    trained(splits, 1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 1/1" in err
    assert "loss" in err
    assert "accuracy" in err


def tiny(samples=6, side=2, classes=2, **transforms):
    return Dataset(np.zeros((samples, side, side), np.uint8), np.arange(samples) % classes, **transforms)


REFUSED = {  # what is wrong: arguments of fit in place of good ones, the error, and what it says
    "net": ({"net": "net"}, TypeError, "net must be a Network; got str"),
    "data": ({"train": [1, 2]}, TypeError, "train must be a Dataset, a RegressionDataset or a Loader; got list"),
    "features": ({"train": tiny(side=3)}, ValueError, r"train must have samples of the shape \(4,\).*got \(9,\)"),
    "images not flat": ({"train": tiny(flatten=False)}, ValueError, r"got \(1, 2, 2\)"),
    "dtype": ({"train": tiny(dtype="float64")}, ValueError, "train must give float32, the net's dtype; got float64"),
    "classes": ({"train": tiny(classes=3)}, ValueError, "train must have at most 2 classes.*got 3"),
    "validation": ({"validation": tiny(side=3)}, ValueError, r"validation must have samples of the shape \(4,\)"),
    "few samples": ({"batch_size": 7}, ValueError, "batch_size 7 is more than the 6 samples"),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
    "batch size twice": ({"train": Loader(tiny(), 2)}, ValueError, "batch_size is the Loader's, 2.*got 3"),
    "seed twice": ({"train": Loader(tiny(), 2), "batch_size": None, "seed": 1}, ValueError, "seed is the Loader's, 0"),
    "epochs": ({"epochs": 0}, ValueError, "epochs must be a positive integer; got 0"),
    "history of longer epochs": (
        {"history": History(begun=Tally([0.5] * 99))},
        ValueError,
        "history must have at most . steps begun; got 99",
    ),
    "device": ({"device": "tpu"}, ValueError, "device must be one of cpu, cuda; got 'tpu'"),
    "metrics": ({"metrics": [error]}, TypeError, "metrics must be functions by their names"),
    "a metric's name": ({"metrics": {"accuracy": error}}, ValueError, "metrics must have names of their own"),
    "schedule of another optimizer": (
        {"schedule": optim.StepLR(optim.Adam(tutorial_net(2, 2, 4, 2)), 1)},
        ValueError,
        "schedule must be one of this optimizer; StepLR",
    ),
    "clip": ({"clip": 0}, ValueError, "clip must be a number above 0; got 0"),
    "clip of text": ({"clip": "1"}, ValueError, "clip must be a number above 0; got '1'"),
    "loss": ({"loss_fn": None}, TypeError, "loss_fn must be a loss"),
    "loss of something else": ({"loss_fn": np.sum}, TypeError, "loss_fn must be a loss"),
    "loss of many numbers": (
        {"loss_fn": SF.mse_count_loss(reduction="none")},
        ValueError,
        'loss_fn must give one number, by reduction="mean" or "sum"',
    ),
    "optimizer of another net": (
        {"optimizer": optim.Adam(tutorial_net(2, 2, 4, 2))},
        ValueError,
        "optimizer must be one of this net; Adam",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_fit_refuses_before_anything_is_changed(case):
    replaced, error, message = REFUSED[case]
    net = tutorial_net(hidden=2, num_steps=2, inputs=4, outputs=2)
    before = net.vector.copy()
    arguments = {"net": net, "train": tiny(), "loss_fn": count_loss(), "optimizer": optim.Adam(net), "batch_size": 3}
    with pytest.raises(error, match=message):
        snn.fit(**arguments | replaced)
    np.testing.assert_array_equal(net.vector, before)


def test_evaluate_refuses_data_that_the_net_cannot_take():
    with pytest.raises(ValueError, match=r"dataset must have samples of the shape \(4,\), the net's input; got \(9,\)"):
        snn.evaluate(tutorial_net(hidden=2, num_steps=2, inputs=4, outputs=2), tiny(side=3))
