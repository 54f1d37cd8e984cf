"""Whatever arrays and arguments a user hands over, drawn at random: taken as they are meant, or refused by name.

An array may lie in memory in any way: it gives the bits of a contiguous copy, and is never written to.
"""

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import relative_error

import snnumba as snn
from snnumba import datasets, optim, quant, regression, spikegen, surrogate
from snnumba import functional as SF

STEPS = 3
seldom = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def unaligned(x: np.ndarray) -> np.ndarray:
    """x, one byte off."""
    room = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    room[...] = x
    return room


def strided(x: np.ndarray) -> np.ndarray:
    """x with gaps along all axes."""
    room = np.full([3 * size for size in x.shape], 99, x.dtype)
    view = room[tuple(slice(1, None, 3) for _ in x.shape)]
    view[...] = x
    return view


def read_only(x: np.ndarray) -> np.ndarray:
    """x, not to be written to."""
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.copy,
    "Fortran": lambda x: x.copy(order="F"),
    "turned": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "reversed": lambda x: np.flip(np.flip(x).copy()),
    "strided": strided,
    "unaligned": unaligned,
    "read-only": read_only,
    "read-only strided": lambda x: np.broadcast_to(strided(x), x.shape),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "repeated": lambda x: np.broadcast_to(x[..., :1], x.shape),
}
Arrays = list[np.ndarray]


@st.composite
def laid_out(draw: st.DrawFn, *shapes: tuple[int, ...], dtype: str) -> Arrays:
    """An array of each shape, of numbers in [0, 1), each in a layout of its own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](rng.random(shape).astype(dtype)) for shape in shapes]


def over_time(layer: Any, x: np.ndarray, dy: np.ndarray) -> Arrays:
    """A stateless layer, there and back."""
    y = layer.forward(x)
    return [y, layer.backward(dy), *layer.gradients.values()]


def with_state(layer: Any, *arrays: np.ndarray) -> Arrays:
    """A spiking layer, there and back, from a state; of the arrays, the last two are gradients."""
    *given_in, dspk, dmem = arrays
    made = layer.forward(*given_in)
    back = layer.backward(dspk=dspk, dmem=dmem)
    return [*made, back, layer.dmem0, *layer.gradients.values()]


def through_net(net: snn.Network, x: np.ndarray, dspk: np.ndarray, dmem: np.ndarray) -> Arrays:
    """A net, there and back."""
    recorded = [net.forward(x, record=name) for name in ("count", "spikes", "membrane")]
    made = net.forward(x)
    dx = net.backward(dspk, dmem, input_gradient=True)
    assert dx is not None
    return [*recorded, *made, dx, *net.gradients.values()]


def small_net(dtype: str) -> snn.Network:
    return snn.Network(snn.Linear(6, 5), snn.RLeaky(0.9, linear_features=5), num_steps=STEPS, dtype=dtype, seed=0)


IMAGES = (STEPS, 2, 2, 4, 5)  # and of what layers make of it
NEURONS = (STEPS, 2, 6)
STEP = NEURONS[1:]
LAYERS: dict[str, tuple[Callable[..., Any], Callable[..., Arrays], tuple[tuple[int, ...], ...]]] = {
    "Linear": (lambda **o: snn.Linear(6, 5, **o), over_time, (NEURONS, (STEPS, 2, 5))),
    "Linear, one step": (lambda **o: snn.Linear(6, 5, **o), over_time, (STEP, (2, 5))),
    "Conv2d": (lambda **o: snn.Conv2d(2, 3, 3, **o), over_time, (IMAGES, (STEPS, 2, 3, 2, 3))),
    "AvgPool2d": (lambda seed, **o: snn.AvgPool2d(2, **o), over_time, (IMAGES, (STEPS, 2, 2, 2, 2))),
    "MaxPool2d": (lambda seed, **o: snn.MaxPool2d(2, **o), over_time, (IMAGES, (STEPS, 2, 2, 2, 2))),
    "Flatten": (lambda seed, **o: snn.Flatten(**o), over_time, (IMAGES, (STEPS, 2, 40))),
    "Dropout": (lambda **o: snn.Dropout(0.3, **o), over_time, (NEURONS, NEURONS)),
    "Leaky": (lambda **o: snn.Leaky(0.9, threshold=0.4, **o), with_state, (NEURONS, STEP, NEURONS, NEURONS)),
    "RLeaky one-to-one": (
        lambda **o: snn.RLeaky(0.9, 0.5, False, **o),
        with_state,
        (NEURONS, STEP, STEP, NEURONS, NEURONS),
    ),
    "RLeaky linear": (
        lambda **o: snn.RLeaky(0.9, linear_features=6, **o),
        with_state,
        (NEURONS, STEP, STEP, NEURONS, NEURONS),
    ),
    "RLeaky conv2d": (
        lambda **o: snn.RLeaky(0.9, conv2d_channels=2, kernel_size=3, **o),
        with_state,
        (IMAGES, IMAGES[1:], IMAGES[1:], IMAGES, IMAGES),
    ),
    "SLSTM": (
        lambda **o: snn.SLSTM(6, 4, threshold=0.1, **o),
        with_state,
        (NEURONS, (2, 4), (2, 4), (STEPS, 2, 4), (STEPS, 2, 4)),
    ),
    "Network": (lambda seed, dtype: small_net(dtype), through_net, (STEP, (STEPS, 2, 5), (STEPS, 2, 5))),
    "Network, time first": (lambda seed, dtype: small_net(dtype), through_net, (NEURONS, (STEPS, 2, 5), (STEPS, 2, 5))),
}


def bits(arrays: Any) -> list[bytes]:
    """What must be equal to the bit."""
    return [np.array(x, order="C").tobytes() for x in arrays]


def check_layouts(run: Callable[..., Any], arrays: Arrays) -> None:
    """The bits of contiguous copies, and inputs that are as they were."""
    copies = [np.array(x, order="C") for x in arrays]
    expected = bits(run(*copies))
    before = bits(arrays)
    assert bits(run(*arrays)) == expected
    assert bits(arrays) == before


@pytest.mark.parametrize("name", LAYERS)
@seldom
@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_any_layout_gives_a_layer_the_bits_of_a_contiguous_copy(name: str, data: st.DataObject, dtype: str) -> None:
    make, run, shapes = LAYERS[name]
    arrays = data.draw(laid_out(*shapes, dtype=dtype))
    check_layouts(lambda *given_in: run(make(dtype=dtype, seed=0), *given_in), arrays)


@seldom
@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_any_layout_gives_a_loss_the_bits_of_a_contiguous_copy(data: st.DataObject, dtype: str) -> None:
    output, trajectory, times = data.draw(laid_out((STEPS, 4, 6), (STEPS, 4, 6), (4, 6), dtype=dtype))
    kind = data.draw(st.sampled_from(["int8", "uint16", "int32", ">i4", "int64", "uint64"]))
    labels = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))](np.array([2, 0, 1, 2], kind))
    weight = data.draw(laid_out((6,), dtype=dtype))[0]

    def run(output: np.ndarray, labels: np.ndarray, trajectory: np.ndarray, times: np.ndarray, weight: np.ndarray):
        made: list[Any] = []
        for loss_fn in (
            SF.mse_count_loss(0.8, 0.2, weight=weight),
            SF.mse_membrane_loss(weight=weight),
            SF.mse_temporal_loss(on_target=1, off_target=2),
            SF.ce_rate_loss(weight=weight),
            SF.ce_count_loss(population_code=True, num_classes=3),
            SF.ce_max_membrane_loss(),
            SF.ce_temporal_loss(),
            SF.ce_rate_loss() + SF.l1_rate_sparsity(0.1),
        ):
            made += loss_fn(output, labels)
        made += SF.mse_membrane_loss(time_var_targets=True)(output, trajectory)
        made += SF.mse_temporal_loss(target_is_time=True)(output, times)
        return [*made, *(f(output, labels) for f in (SF.accuracy_rate, SF.accuracy_membrane, SF.accuracy_temporal))]

    check_layouts(run, [output, labels, trajectory, times, weight])


@seldom
@given(st.data(), st.sampled_from(["float16", "float32", "float64", "uint8", "int64", ">f8"]))
def test_any_layout_and_numbers_give_data_the_bits_of_a_contiguous_copy(data: st.DataObject, dtype: str) -> None:
    values = data.draw(laid_out((STEPS, 4, 6), (4, 6, 5, 3), (STEPS, 4, 2), dtype="float64"))
    x, images, targets = (LAYOUTS["strided"](x.astype(dtype)) if dtype != "float64" else x for x in values)
    images = images if images.dtype.kind == "f" else images.astype("uint8")
    labels, indices = (LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))](np.array([1, 0, 3, 0])) for _ in range(2))

    def run(x: np.ndarray, images: np.ndarray, targets: np.ndarray, labels: np.ndarray, indices: np.ndarray):
        made = [
            spikegen.rate(x, 5, seed=0),
            spikegen.rate(x, time_var_input=True, seed=0),
            spikegen.latency(x, 5, normalize=True, linear=True),
            spikegen.delta(x, off_spike=True),
            snn.Leaky(0.9)(x[0])[1],
            snn.Linear(6, 2, seed=0)(x[0]),
        ]
        for options in ({}, {"resize": 4, "grayscale": True}):
            set_ = datasets.Dataset(images, labels, **options)
            made += [*set_.batch(indices), *next(iter(datasets.Loader(set_, 3, seed=1)))]
        set_ = regression.RegressionDataset(x, targets)
        return [*made, *set_.batch(indices), *next(iter(datasets.Loader(set_, 3, seed=1)))]

    check_layouts(run, [x, images, targets, labels, indices])


@seldom
@given(st.data(), st.sampled_from(["float16", "float32", "float64", "int32", ">f4"]))
def test_any_layout_and_numbers_make_a_state(data: st.DataObject, dtype: str) -> None:
    net = small_net("float32")
    state = {
        name: LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))](x.astype(dtype)) if x.ndim else x
        for name, x in net.state_dict().items()
    }
    before = bits(state.values())
    net.load_state_dict(state)
    assert bits(net.state_dict().values()) == bits(x.astype("float32") for x in state.values())
    assert bits(state.values()) == before


@seldom
@given(st.integers(0, 5), st.sampled_from(sorted(LAYERS)), st.data())
def test_an_empty_axis_is_refused_with_the_shape(axis: int, name: str, data: st.DataObject) -> None:
    make, run, shapes = LAYERS[name]
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    k = data.draw(st.integers(0, len(arrays) - 1))
    shape = list(shapes[k])
    shape[axis % len(shape)] = 0
    arrays[k] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=re.escape(str(tuple(shape)))):
        run(make(dtype="float32", seed=0), *arrays)


@pytest.mark.compiled
@settings(max_examples=8, deadline=None)
@given(st.integers(10_000, 40_000), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
def test_a_huge_batch_gives_each_sample_what_it_gets_alone(batch: int, seed: int, neurons: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [snn.Linear(2, neurons), snn.Leaky(0.5), snn.Linear(neurons, 2), snn.RLeaky(0.9, linear_features=2)]
    net = snn.Network(*layers, num_steps=2, dtype="float64", seed=0)
    x, labels = rng.normal(0, 3, (batch, 2)), rng.integers(0, 2, batch)
    spk, mem = net.forward(x)
    loss_fn = SF.mse_count_loss(reduction="sum")
    loss, dspk = loss_fn(spk, labels)
    net.backward(dspk)
    gradients = [x.copy() for x in net.gradients.values()]
    np.testing.assert_array_equal(net.forward(x, record="count"), spk.sum(axis=0))
    total, sums = 0.0, [np.zeros_like(x) for x in gradients]
    for some in np.array_split(np.arange(batch), 7):
        part, membranes = net.forward(x[some])
        np.testing.assert_array_equal(part, spk[:, some])
        assert relative_error(membranes, mem[:, some]) < 1e-12  # float64 in another order
        value, dpart = loss_fn(part, labels[some])
        total += value
        net.backward(dpart)
        sums = [a + b for a, b in zip(sums, net.gradients.values(), strict=True)]
    assert loss == total  # sums of whole numbers
    for a, b in zip(gradients, sums, strict=True):
        assert relative_error(a, b) < 1e-11  # float64 over 40,000 samples in another order
    data = datasets.Dataset(rng.integers(0, 256, (batch, 1, 2), np.uint8), labels)
    seen = np.concatenate([y for _, y in datasets.Loader(data, 999, drop_last=False)])
    assert np.bincount(seen).tolist() == np.bincount(labels).tolist()


# What an array of floats is not: of another type, or no array at all.
NO_FLOATS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        kind: lambda x, kind=kind: x.astype(kind)
        for kind in ("float16", "longdouble", "int8", "uint64", "bool", "complex64", "object", "S3", ">f4", "m8[s]")
    },
    "the other float": lambda x: x.astype("float64" if x.dtype == np.float32 else "float32"),
    "list": np.ndarray.tolist,
    "number": lambda x: 1.0,
    "None": lambda x: None,
    "masked": np.ma.masked_array,
}
NAMES = {  # of the arrays of a call
    over_time: ("x", "dy"),
    through_net: ("x", "dspk", "dmem"),
    with_state: ("current|x", "spk0|syn0|mem0", "mem0", "dspk", "dmem|dsyn"),
}


def through_last(layer: Any, *gradients: np.ndarray) -> Arrays:
    """The way back of the last forward pass."""
    back = layer.backward(*gradients) if len(gradients) == 1 else layer.backward(dspk=gradients[0], dmem=gradients[1])
    return [*([] if back is None else [back]), *layer.gradients.values()]


@pytest.mark.parametrize("name", LAYERS)
@seldom
@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_what_is_no_array_of_the_dtype_is_refused_and_changes_nothing(
    name: str, data: st.DataObject, dtype: str
) -> None:
    make, run, shapes = LAYERS[name]
    arrays = data.draw(laid_out(*shapes, dtype=dtype))
    layer = make(dtype=dtype, seed=0)
    if name == "Dropout":
        layer.training = False  # it draws at each call
    expected = bits(run(layer, *arrays))
    k = data.draw(st.integers(0, len(arrays) - 1))
    other = data.draw(st.sampled_from(sorted(NO_FLOATS)))
    wrong = NO_FLOATS[other](arrays[k])
    back = 2 if run is not over_time else 1
    if wrong is None and k > 0 and run is not over_time:
        return  # an array that may be left out
    names = NAMES[run]
    named = names[k] if len(names) == len(arrays) else (*names[:1], *names[2:])[k]
    ahead = len(arrays) - back  # how many arrays forward takes
    call, given_in = layer.forward, [*arrays[:k], wrong, *arrays[k + 1 : ahead]]
    if k >= ahead:
        call, given_in = layer.backward, [*[None] * (k - ahead), wrong]
    with pytest.raises((TypeError, ValueError), match=rf"\b({named})\b.* must be"):
        call(*given_in)
    again = through_last(layer, *arrays[ahead:])
    assert set(bits(again)) <= set(expected)


# Values that an argument may be given by mistake.
JUNK: list[Any] = [None, True, False, -3, 0, 1, 2, 7, 2**63, 2**80, -(2**70), 10**400, -1.0, 0.0, 0.5, 1e-320, 1e300]
JUNK += [np.nan, np.inf, 3 + 1j, "", "zero", "3", b"3", "mean", "float64", (), (1, 2), [1, 2, 3], [[1.0], [2.0, 3.0]]]
JUNK += [[np.nan], {}, {"a": 1}, {1}, object(), print, int, ..., np.float32(0.5), np.int64(2), np.array(0.5)]
JUNK += [np.ones(2), np.zeros(0), np.array("x"), np.ma.masked_array([0.5, 0.5], [0, 1])]
TOY = datasets.Dataset(np.zeros((6, 3, 3), np.uint8), np.arange(6) % 3)
RATES = np.random.default_rng(0).random((4, 3, 6))
MAKERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Linear": (snn.Linear, {"in_features": 3, "out_features": 2}),
    "Conv2d": (snn.Conv2d, {"in_channels": 1, "out_channels": 2, "kernel_size": 3}),
    "AvgPool2d": (snn.AvgPool2d, {"kernel_size": 2}),
    "MaxPool2d": (snn.MaxPool2d, {"kernel_size": 2}),
    "Dropout": (snn.Dropout, {}),
    "Flatten": (snn.Flatten, {}),
    "Leaky": (snn.Leaky, {"beta": 0.9}),
    "RLeaky linear": (snn.RLeaky, {"beta": 0.9, "linear_features": 3}),
    "RLeaky conv2d": (snn.RLeaky, {"beta": 0.9, "conv2d_channels": 3, "kernel_size": 3}),
    "RLeaky one-to-one": (snn.RLeaky, {"beta": 0.9, "V": 0.5, "all_to_all": False}),
    "SLSTM": (snn.SLSTM, {"input_size": 3, "hidden_size": 2}),
    "Network": (
        lambda num_steps, dtype, device, seed: snn.Network(
            snn.Leaky(0.9), num_steps=num_steps, dtype=dtype, device=device, seed=seed
        ),
        {"num_steps": 3, "dtype": None, "device": "cpu", "seed": 0},
    ),
    **{name: (getattr(SF, name), {}) for name in SF.__all__ if name.endswith("_loss") or name == "l1_rate_sparsity"},
    **{name: (getattr(surrogate, name), {}) for name in surrogate.KINDS if "straight" not in name},
    "custom_surrogate": (surrogate.custom_surrogate, {"function": abs}),
    "state_quant": (quant.state_quant, {"num_bits": 3}),
    "Adam": (optim.Adam, {"net": small_net("float32")}),
    "AdamW": (optim.AdamW, {"net": small_net("float32")}),
    "SGD": (optim.SGD, {"net": small_net("float32"), "momentum": 0.5}),
    "clip_grad_norm": (optim.clip_grad_norm, {"net": small_net("float32"), "max_norm": 1.0}),
    "clip_grad_value": (optim.clip_grad_value, {"net": small_net("float32"), "value": 1.0}),
    "StepLR": (optim.StepLR, {"optimizer": optim.SGD(small_net("float32")), "step_size": 2}),
    "CosineAnnealingLR": (optim.CosineAnnealingLR, {"optimizer": optim.SGD(small_net("float32")), "T_max": 2}),
    "rate": (spikegen.rate, {"data": RATES, "num_steps": 5}),
    "latency": (spikegen.latency, {"data": RATES, "num_steps": 5, "bypass": True}),
    "delta": (spikegen.delta, {"data": RATES}),
    "Dataset": (datasets.Dataset, {"images": TOY.images, "labels": TOY.labels}),
    "RegressionDataset": (regression.RegressionDataset, {"features": RATES, "targets": RATES}),
    "Loader": (datasets.Loader, {"dataset": TOY, "batch_size": 2}),
    "accuracy_rate": (SF.accuracy_rate, {"spk": RATES, "targets": [0, 1, 2]}),
    "accuracy_membrane": (SF.accuracy_membrane, {"mem": RATES, "targets": [0, 1, 2]}),
    "accuracy_temporal": (SF.accuracy_temporal, {"spk": RATES, "targets": [0, 1, 2]}),
    "set_num_threads": (lambda threads: snn.set_num_threads(threads), {"threads": 2}),
    "forward of Linear": (lambda x: snn.Linear(6, 2, dtype="float64").forward(x), {"x": RATES}),
    "step of Linear": (lambda x: snn.Linear(6, 2)(x), {"x": RATES[0]}),
    "forward of Leaky": (
        lambda current, mem0: snn.Leaky(0.9, dtype="float64").forward(current, mem0),
        {"current": RATES, "mem0": None},
    ),
    "step of Leaky": (lambda x, mem: snn.Leaky(0.9)(x, mem), {"x": RATES[0], "mem": None}),
    "step of SLSTM": (lambda x, syn, mem: snn.SLSTM(6, 2)(x, syn, mem), {"x": RATES[0], "syn": None, "mem": None}),
    "V": (lambda V: setattr(snn.RLeaky(0.9, all_to_all=False), "V", V), {"V": 1}),
    "forward of a net": (
        lambda x, num_steps, record: small_net("float64").forward(x, num_steps, record),
        {"x": RATES[0], "num_steps": 2, "record": None},
    ),
    "state of a net": (lambda state: small_net("float32").load_state_dict(state), {"state": {}}),
    "a loss": (lambda spk, targets: SF.mse_count_loss()(spk, targets), {"spk": RATES, "targets": [0, 1, 2]}),
    "times": (
        lambda spk, targets: SF.mse_temporal_loss(target_is_time=True)(spk, targets),
        {"spk": RATES, "targets": RATES[0]},
    ),
    "a regularizer": (lambda spk: SF.l1_rate_sparsity()(spk), {"spk": RATES}),
    "samples": (lambda indices: TOY.batch(indices), {"indices": [0, 1]}),
    "epoch": (lambda epoch: datasets.Loader(TOY, 2).order(epoch), {"epoch": 0}),
    "lr": (lambda lr: setattr(optim.SGD(small_net("float32")), "lr", lr), {"lr": 0.1}),
    "evaluate": (
        lambda net, dataset, loss_fn, batch_size: snn.evaluate(net, dataset, loss_fn=loss_fn, batch_size=batch_size),
        {"net": snn.Network(snn.Leaky(0.9), num_steps=2), "dataset": TOY, "loss_fn": None, "batch_size": 2},
    ),
}


def refusal(make: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """What the error says that the arguments get, if they get one; too much memory is none of theirs."""
    try:
        make(**arguments)
    except (TypeError, ValueError, LookupError) as error:
        return str(error)
    except MemoryError:
        pass
    return None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers too large for float32, and what comes of infinity
@pytest.mark.parametrize("maker", MAKERS)
def test_any_value_of_any_argument_is_taken_or_refused_by_name(maker: str) -> None:
    make, arguments = MAKERS[maker]
    threads = snn.get_num_threads()
    for name, value in itertools.product(inspect.signature(make).parameters, JUNK):
        error = refusal(make, arguments | {name: value})
        assert error is None or re.search(rf"\b{name}\b", error), f"{maker}({name}={value!r}): {error}"
    snn.set_num_threads(threads)
