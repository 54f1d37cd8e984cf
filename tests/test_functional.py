"""Losses, regularizers and metrics against snnTorch's numbers, the float64 reference, and finite differences."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import reference as ref
from golden_files import cases, load
from memory import taken
from reference import relative_error
from targets import on_every_target, on_host

import snnumba as snn
from snnumba import backend
from snnumba import functional as SF

# float64: the same sums in another order. float32: 2^-24 a rounding, sums of up to a hundred terms
TOLERANCE = {"float64": 1e-10, "float32": 2e-6}


def is_metric(config: dict[str, Any]) -> bool:
    return config["role"] == "metric"


@on_every_target
@pytest.mark.parametrize("case", cases("losses.h5", lambda config: not is_metric(config)))
def test_golden_value_and_gradient(case: str, dtype: str, device: str) -> None:
    config, data = load("losses.h5", case)
    output = backend.load(device).from_host(data["input"].astype(dtype))
    arguments = [data["targets"]] if "targets" in data else []
    if config["params"].get("time_var_targets"):  # labels a step there, a trajectory here
        arguments = [np.broadcast_to(data["effective_targets"][:, None], output.shape)]
    value, gradient = getattr(SF, config["function"])(**config["params"])(output, *arguments)
    assert gradient.dtype == dtype
    assert relative_error(value, data["value"].reshape(())) < TOLERANCE[dtype]
    assert relative_error(on_host(gradient), data["grad"]) < TOLERANCE[dtype]


@on_every_target
@pytest.mark.parametrize("case", cases("losses.h5", is_metric))
def test_golden_metric(case: str, dtype: str, device: str) -> None:
    config, data = load("losses.h5", case)
    output = backend.load(device).from_host(data["input"].astype(dtype))
    got = getattr(SF, config["function"])(output, data["targets"], **config["params"])
    assert got == data["value"]  # a ratio of counts: exact


STEPS, BATCH, OUTPUTS = 9, 7, 6
LABELS = np.arange(BATCH) * 5 % OUTPUTS
HALVED = LABELS % 2  # labels of two classes, of three outputs each
TIMES = np.arange(BATCH * OUTPUTS).reshape(BATCH, OUTPUTS) % 13 - 2.5  # some count back from T, none is a step
TRAJECTORY = np.cos(np.arange(STEPS * BATCH * OUTPUTS)).reshape(STEPS, BATCH, OUTPUTS)
PAIRS = {"population_code": True, "num_classes": 2}

# name: the loss, its options, the targets
LOSSES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "mse_count": ("mse_count_loss", {"correct_rate": 0.8, "incorrect_rate": 0.2}, LABELS),
    "mse_count population": ("mse_count_loss", {"correct_rate": 0.8, "incorrect_rate": 0.2} | PAIRS, HALVED),
    "mse_membrane": ("mse_membrane_loss", {"on_target": 1.05, "off_target": 0.2}, LABELS),
    "mse_membrane trajectory": ("mse_membrane_loss", {"time_var_targets": True}, TRAJECTORY),
    "mse_temporal": ("mse_temporal_loss", {"on_target": 1, "off_target": 6, "tolerance": 2}, LABELS),
    "mse_temporal times": ("mse_temporal_loss", {"target_is_time": True}, TIMES),
    "mse_temporal times of neurons": ("mse_temporal_loss", {"target_is_time": True}, TIMES[0]),
    "ce_rate": ("ce_rate_loss", {}, LABELS),
    "ce_count": ("ce_count_loss", {}, LABELS),
    "ce_count population": ("ce_count_loss", PAIRS, HALVED),
    "ce_max_membrane": ("ce_max_membrane_loss", {}, LABELS),
    "ce_temporal negate": ("ce_temporal_loss", {"inverse": "negate"}, LABELS),
    "ce_temporal reciprocal": ("ce_temporal_loss", {"inverse": "reciprocal"}, LABELS),
}
DIFFERENTIABLE = [name for name in LOSSES if "temporal" not in name]


def made(name: str, **options: Any) -> Callable[..., Any]:
    """The loss of this name."""
    function, its, _ = LOSSES[name]
    return getattr(SF, function)(**its, **options)


def random_output(name: str, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Membranes, or spikes, among them silent neurons; whatever the loss reads."""
    rng = np.random.default_rng(seed)
    shape = STEPS, BATCH, OUTPUTS
    if "membrane" in name:
        return rng.normal(0.4, 0.8, shape).astype(dtype)
    return (rng.random(shape) < rng.uniform(0, 0.5, shape[1:])).astype(dtype)


@pytest.mark.parametrize("name", LOSSES)
def test_random_outputs_give_the_references_value_and_gradient(name: str) -> None:
    function, options, targets = LOSSES[name]
    output = random_output(name)
    value, gradient = made(name)(output, targets)
    expected = getattr(ref, function)(output, targets, **options)
    assert relative_error(value, expected[0]) < 1e-12  # the same sums in another order
    assert relative_error(gradient, expected[1]) < 1e-12


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = snn.get_num_threads()
    snn.set_num_threads(3)
    yield
    snn.set_num_threads(before)


def many(name: str, samples: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Output and targets of many samples."""
    targets = LOSSES[name][2]
    if targets.shape[0] == BATCH:
        targets = np.resize(targets, (samples, *targets.shape[1:]))
    elif targets.ndim == 3:
        targets = np.resize(targets, (STEPS, samples, OUTPUTS))
    return np.resize(random_output(name, dtype=dtype), (STEPS, samples, OUTPUTS)), targets


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("name", LOSSES)
def test_samples_shared_out_to_threads_give_the_references_gradient(name: str) -> None:
    function, options, _ = LOSSES[name]
    output, targets = many(name, 700)  # 256, 256 and 188 a thread
    value, gradient = made(name)(output, targets)
    expected = getattr(ref, function)(output, targets, **options)
    assert relative_error(value, expected[0]) < 1e-12  # the same sums in another order
    assert relative_error(gradient, expected[1]) < 1e-12


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_the_derivative_of_the_value(name: str, weighted: bool, reduction: str) -> None:
    weight = weights_of(name) if weighted else None
    loss_fn = made(name, reduction=reduction, weight=weight)
    output, targets = random_output(name), LOSSES[name][2]
    # real numbers for spikes: the losses that count them are smooth
    output = output + np.random.default_rng(1).normal(0, 0.1, output.shape)
    _, gradient = loss_fn(output, targets)
    gradient = gradient.copy()
    for index in [(0, 0, 0), (4, 2, 3), (8, 6, 5), (3, 5, 1)]:
        ends = []
        for step in (1e-5, -1e-5):
            moved = output.copy()
            moved[index] += step
            ends.append(loss_fn(moved, targets)[0])
        # third derivatives times 1e-10, and roundings of a sum of about a hundred over 2e-5
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8)


def weights_of(name: str) -> np.ndarray:
    """Weights for the loss's classes, one of them zero."""
    return np.array([0.5, 3.0]) if "population" in name else np.array([1.0, 2.0, 0.5, 0.0, 4.0, 1.5])


def elements(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Losses without weights: (B, K) of each class for MSE, (B,) of each sample for CE, and their gradients."""
    value, gradient = made(name, reduction="none")(random_output(name), LOSSES[name][2])
    return value.copy(), gradient.copy()


@pytest.mark.parametrize("name", LOSSES)
def test_mean_and_sum_reduce_what_none_gives(name: str) -> None:
    each, gradient = elements(name)
    output, targets = random_output(name), LOSSES[name][2]
    classes = 2 if "population" in name else OUTPUTS
    assert each.shape == ((BATCH, classes) if name.startswith("mse") else (BATCH,))
    for reduction, expected, divisor in (("sum", each.sum(), 1), ("mean", each.mean(), each.size)):
        value, got = made(name, reduction=reduction)(output, targets)
        assert value == pytest.approx(expected, rel=1e-12)  # one sum in another order
        assert relative_error(got, gradient / divisor) < 1e-12


@pytest.mark.parametrize("name", [name for name in LOSSES if name.startswith("mse")])
def test_weights_of_a_squared_error_weight_the_classes(name: str) -> None:
    each, gradient = elements(name)
    weight = weights_of(name)
    output, targets = random_output(name), LOSSES[name][2]
    spread = np.repeat(weight, OUTPUTS // len(weight))
    for reduction, expected, divisor in (
        ("none", each * weight, 1),
        ("sum", (each * weight).sum(), 1),
        ("mean", (each * weight).sum() / each.size, each.size),
    ):
        value, got = made(name, reduction=reduction, weight=weight)(output, targets)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert relative_error(got, gradient * spread / divisor) < 1e-12


@pytest.mark.parametrize("name", [name for name in LOSSES if name.startswith("ce")])
def test_weights_of_a_cross_entropy_weight_the_samples_by_label_as_torch(name: str) -> None:
    each, gradient = elements(name)
    output, targets = random_output(name), LOSSES[name][2]
    weight = weights_of(name)
    of_sample = weight[targets]
    for reduction, expected, divisor in (
        ("none", each * of_sample, 1),
        ("sum", (each * of_sample).sum(), 1),
        ("mean", (each * of_sample).sum() / of_sample.sum(), of_sample.sum()),
    ):
        value, got = made(name, reduction=reduction, weight=weight)(output, targets)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert relative_error(got, gradient * of_sample[:, None] / divisor) < 1e-12


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_no_bit(name: str, reduction: str) -> None:
    output, targets = random_output(name, dtype="float32"), LOSSES[name][2]
    plain = made(name, reduction=reduction)(output, targets)
    ones = np.ones_like(weights_of(name))
    for got, expected in zip(made(name, reduction=reduction, weight=ones)(output, targets), plain, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_batch_of_labels_without_weight_has_no_loss_and_no_gradient() -> None:
    loss, gradient = SF.ce_count_loss(weight=[0, 1])(np.ones((3, 2, 2)), [0, 0])
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", LOSSES)
def test_float32_stays_float32(name: str) -> None:
    for reduction in ("mean", "none"):
        value, gradient = made(name, reduction=reduction)(random_output(name, dtype="float32"), LOSSES[name][2])
        assert gradient.dtype == np.float32
        assert isinstance(value, float) or value.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_large_membranes_is_finite(dtype: str) -> None:
    mem = np.zeros((2, 1, 3), dtype)
    mem[:, 0, 1] = 1e4  # its exponential overflows
    value, gradient = SF.ce_max_membrane_loss()(mem, [0])
    assert value == pytest.approx(1e4)
    np.testing.assert_array_equal(gradient[0, 0], [-1, 1, 0])
    assert SF.ce_max_membrane_loss()(mem, [1])[0] == 0


def test_a_silent_neuron_gets_its_temporal_gradient_at_the_last_step() -> None:
    _, gradient = SF.mse_temporal_loss(on_target=0, off_target=0)(np.zeros((5, 1, 2)), [0])
    assert not gradient[:4].any()
    np.testing.assert_allclose(gradient[4, 0], -2 * 4 / 5**2 / 2)  # it is to spike earlier: a spike lowers the loss


def test_the_gradient_of_a_peak_is_at_the_first_of_equals() -> None:
    mem = np.array([0.0, 1.0, 1.0])[:, None, None] * np.ones((1, 2))
    _, gradient = SF.ce_max_membrane_loss()(mem, [0])
    np.testing.assert_array_equal(gradient[:, 0], [[0, 0], [-0.5, 0.5], [0, 0]])


@pytest.mark.parametrize(
    ("spk", "expected"),
    [([[0, 1], [1, 0]], 1), ([[0, 0], [0, 1]], 0), ([[0, 0], [0, 0]], 0), ([[0, 0], [1, 1]], 0)],
)
def test_the_earliest_spike_wins_and_the_lowest_index_of_equals(spk: Any, expected: int) -> None:
    spk = np.array(spk, float)[:, None]  # two steps; silent is as late as the last
    assert SF.accuracy_temporal(spk, [expected]) == 1


@pytest.mark.parametrize("name", ["accuracy_rate", "accuracy_membrane"])
def test_a_population_wins_together(name: str) -> None:
    x = np.zeros((4, 1, 4))
    x[:, 0] = [3, 0, 2, 2]  # the largest output is of class 0, the largest pair is class 1
    accuracy = getattr(SF, name)
    assert accuracy(x, [0]) == 1
    assert accuracy(x, [1], population_code=True, num_classes=2) == 1


def test_a_regularizer_adds_its_value_and_gradient() -> None:
    spk = random_output("mse_count")
    plain, regularizer = SF.mse_count_loss(), SF.l1_rate_sparsity(0.01)
    loss_fn = plain + regularizer + regularizer
    value, gradient = loss_fn(spk, LABELS)
    assert loss_fn.output == "spk"
    assert value == pytest.approx(plain(spk, LABELS)[0] + 2 * 0.01 * spk.sum(), rel=1e-14)
    np.testing.assert_allclose(gradient, plain(spk, LABELS)[1] + 0.02, rtol=1e-13)


def test_a_regularizer_that_does_not_fit_is_refused() -> None:
    sparsity = SF.l1_rate_sparsity()
    with pytest.raises(ValueError, match=r"regularizer must be for mem, as mse_membrane_loss\(\) is; .* is for spk"):
        SF.mse_membrane_loss() + sparsity
    with pytest.raises(TypeError, match='regularizer must be one whose output is "spk" or "mem"; got 3'):
        SF.mse_count_loss() + 3
    with pytest.raises(ValueError, match='reduction must be "mean" or "sum" where a regularizer is added; got "none"'):
        SF.mse_count_loss(reduction="none") + sparsity


def test_what_was_returned_is_not_overwritten_while_it_is_kept() -> None:
    loss_fn = SF.ce_rate_loss(reduction="none")
    kept = [loss_fn(random_output("ce_rate", seed), LABELS) for seed in (1, 2, 3)]
    for seed, (value, gradient) in zip((1, 2, 3), kept, strict=True):
        again = SF.ce_rate_loss(reduction="none")(random_output("ce_rate", seed), LABELS)
        np.testing.assert_array_equal(value, again[0])
        np.testing.assert_array_equal(gradient, again[1])


def test_a_loss_takes_outputs_of_other_shapes_and_types_in_turn() -> None:
    loss_fn = SF.mse_count_loss(weight=[1, 2, 3])
    for shape in ((4, 2, 3), (9, 5, 3), (2, 1, 3)):
        for dtype in (np.float32, np.float64):
            spk, labels = np.ones(shape, dtype), np.arange(shape[1]) % 3
            fresh = SF.mse_count_loss(weight=[1, 2, 3])(spk, labels)
            for got, expected in zip(loss_fn(spk, labels), fresh, strict=True):
                np.testing.assert_array_equal(got, expected)


def test_snntorchs_positional_arguments_mean_the_same() -> None:
    assert repr(SF.mse_count_loss(0.5, 0.1, False, False)) == "mse_count_loss(correct_rate=0.5, incorrect_rate=0.1)"
    assert repr(SF.ce_count_loss(True, 5)) == "ce_count_loss(population_code=True, num_classes=5)"
    assert repr(SF.mse_membrane_loss(False, 1.05, 0.2)) == "mse_membrane_loss(on_target=1.05, off_target=0.2)"
    loss_fn = SF.mse_temporal_loss(False, 1, 6, 2)
    assert repr(loss_fn) == "mse_temporal_loss(on_target=1.0, off_target=6.0, tolerance=2.0)"
    assert repr(SF.ce_temporal_loss("reciprocal")) == "ce_temporal_loss(inverse='reciprocal')"


def test_a_loss_is_of_labels_where_its_targets_are_classes() -> None:
    assert SF.mse_temporal_loss().labelled
    assert not SF.mse_temporal_loss(target_is_time=True).labelled
    assert not SF.mse_membrane_loss(time_var_targets=True).labelled


def test_losses_show_how_they_were_made() -> None:
    assert repr(SF.mse_count_loss(0.8, 0.2)) == "mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)"
    assert repr(SF.ce_rate_loss(weight=[1, 2])) == "ce_rate_loss(weight=[1.0, 2.0])"
    assert repr(SF.ce_rate_loss() + SF.l1_rate_sparsity(0.5)) == "ce_rate_loss() + l1_rate_sparsity(0.5)"


# Bytes of Python's own objects, and of NumPy's room to convert 8192 numbers at a time. The smallest array, one float32
# a sample, has 160,000.
MANY, SMALL = 40_000, 80_000


@pytest.mark.compiled
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_calls_after_the_first_allocate_no_array(name: str, weighted: bool) -> None:
    output, targets = many(name, MANY, "float32")
    loss_fn = made(name, weight=weights_of(name) if weighted else None)
    loss_fn(output, targets)
    assert taken(lambda: loss_fn(output, targets)) < SMALL


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["accuracy_rate", "accuracy_membrane", "accuracy_temporal"])
def test_metrics_after_the_first_call_allocate_no_array(name: str) -> None:
    output, labels = np.ones((STEPS, MANY, OUTPUTS), np.float32), np.arange(MANY) % OUTPUTS
    assert taken(lambda: getattr(SF, name)(output, labels)) < SMALL


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("mse_count_loss", {"correct_rate": 1.5}, ValueError, r"correct_rate must lie in \[0, 1\], a share of"),
        ("mse_count_loss", {"incorrect_rate": "low"}, ValueError, "incorrect_rate must be a finite number; got 'low'"),
        ("mse_count_loss", {"population_code": 10}, TypeError, "population_code must be True or False; got 10"),
        ("mse_count_loss", {"population_code": True}, ValueError, "num_classes must be given with population_code"),
        ("ce_count_loss", {"num_classes": 5}, ValueError, "num_classes needs population_code=True; got num_classes=5"),
        ("ce_count_loss", {"population_code": True, "num_classes": 2.5}, ValueError, "num_classes must be a positive"),
        ("mse_membrane_loss", {"time_var_targets": 1.05}, TypeError, "time_var_targets must be True or False; got 1"),
        ("mse_membrane_loss", {"on_target": np.inf}, ValueError, "on_target must be a finite number; got inf"),
        ("mse_temporal_loss", {"tolerance": -1}, ValueError, "tolerance must not be negative; got -1"),
        ("mse_temporal_loss", {"target_is_time": None}, TypeError, "target_is_time must be True or False; got None"),
        ("ce_temporal_loss", {"inverse": "no"}, ValueError, "inverse must be one of negate, reciprocal; got 'no'"),
        ("ce_rate_loss", {"reduction": "max"}, ValueError, "reduction must be one of mean, sum, none; got 'max'"),
        ("ce_rate_loss", {"weight": [[1.0]]}, ValueError, r"weight must be \(C,\), one per class; got \(1, 1\)"),
        ("ce_rate_loss", {"weight": [1, -2]}, ValueError, r"weight must not be negative; weight\[1\] is -2"),
        ("ce_rate_loss", {"weight": [1, np.nan]}, ValueError, "weight must be finite; got nan"),
        ("ce_rate_loss", {"weight": ["a"]}, TypeError, "weight must be numbers; got <U1"),
        ("l1_rate_sparsity", {"Lambda": np.nan}, ValueError, "Lambda must be a finite number; got nan"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(SF, name)(**arguments)


SPK = np.zeros((4, 2, 3))


@pytest.mark.parametrize(
    ("loss_fn", "output", "targets", "error", "message"),
    [
        (SF.mse_count_loss(), SPK.astype(int), [0, 1], TypeError, "spk must be float32 or float64; got int64"),
        (SF.mse_membrane_loss(), SPK[0], [0, 1], ValueError, r"mem must be \(T, B, C\); got \(2, 3\)"),
        (SF.ce_rate_loss(), [[[0.0]]], [0], TypeError, "spk must be a NumPy array; got list"),
        (SF.ce_rate_loss(), SPK, [0.0, 1.0], TypeError, "targets must be integers; got float64"),
        (SF.ce_count_loss(), SPK, [0, 1, 2], ValueError, r"targets must be \(2,\), one per sample; got \(3,\)"),
        (SF.ce_count_loss(), SPK, [0, 3], ValueError, r"targets must lie in \[0, 3\), the classes; targets\[1\] is 3"),
        (
            SF.ce_count_loss(population_code=True, num_classes=2), SPK, [0, 1], ValueError,
            "spk must have outputs in num_classes=2 equal groups; got 3 outputs",
        ),
        (SF.ce_rate_loss(weight=[1, 2]), SPK, [0, 1], ValueError, r"weight must be \(3,\), one per class; got \(2,\)"),
        (
            SF.mse_membrane_loss(time_var_targets=True), SPK, [0, 1], ValueError,
            r"targets must be \(4, 2, 3\); got \(2,\)",
        ),
        (SF.mse_membrane_loss(time_var_targets=True), SPK, SPK + np.inf, ValueError, "targets must be finite; got inf"),
        (
            SF.mse_temporal_loss(target_is_time=True), SPK, SPK[0, :, :2], ValueError,
            r"targets must be \(2, 3\) or \(3,\); got \(2, 2\)",
        ),
        (SF.mse_temporal_loss(target_is_time=True), SPK, "soon", TypeError, "targets must be numbers; got <U4"),
    ],
)  # fmt: skip
def test_wrong_outputs_and_targets_are_named(
    loss_fn: Any, output: Any, targets: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loss_fn(output, targets)


def test_wrong_arguments_of_metrics_are_named() -> None:
    with pytest.raises(ValueError, match="num_classes must be given with population_code=True"):
        SF.accuracy_rate(SPK, [0, 1], population_code=True)
    with pytest.raises(ValueError, match="mem must have outputs in num_classes=2 equal groups; got 3 outputs"):
        SF.accuracy_membrane(SPK, [0, 1], population_code=True, num_classes=2)
    with pytest.raises(TypeError, match="targets must be integers; got float64"):
        SF.accuracy_temporal(SPK, [0.5, 1])
