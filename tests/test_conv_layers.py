"""Layers of images: Conv2d, AvgPool2d, MaxPool2d, Flatten and Dropout against the reference, and what they refuse."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import taken
from reference import Array, relative_error

import snnumba as snn
from snnumba import functional as SF
from snnumba import optim
from snnumba.kernels import rules
from snnumba.layers.base import Layer, Spikes

EXACT = 1e-11  # float64 in another order of sums: 1e-14 was seen
POOLS = {
    snn.AvgPool2d: (ref.avg_pool_forward, ref.avg_pool_backward),
    snn.MaxPool2d: (ref.max_pool_forward, ref.max_pool_backward),
}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, for this test."""
    before = snn.get_num_threads()
    yield snn.set_num_threads
    snn.set_num_threads(before)


def pack(x: Array) -> Spikes:
    """x (T, B, C, H, W) of zeros and ones as spikes."""
    rows = x.reshape(*x.shape[:2], -1)
    rows = np.pad(rows, [(0, 0), (0, 0), (0, -rows.shape[2] % 64)]).astype(np.uint8)
    return Spikes(np.packbits(rows, axis=-1, bitorder="little").view(np.uint64), x.shape[2:])


def through(layer: Layer, x: Array | Spikes, steps: int, dy: Array) -> tuple[Any, Array | None]:
    """What a net has of a layer: its output for x (T or 1, B, *shape), and dx for dy, which begins as a T of it."""
    y = layer._run(x, steps)
    layer._prepare_back(True)
    dx = layer._run_back(dy[: (y.bits if isinstance(y, Spikes) else y).shape[0]], True)
    layer._learn_weights()
    layer._finish_back()
    return y, dx


@st.composite
def geometries(draw: st.DrawFn, pooling: bool) -> dict[str, Any]:
    """A kernel, a stride and a padding, and an image that they fit."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    most = [k // 2 if pooling else k - 1 for k in kernel]
    padding = tuple(draw(st.integers(0, p)) for p in most)
    image = tuple(draw(st.integers(max(1, k - 2 * p), 20)) for k, p in zip(kernel, padding, strict=True))
    return {
        "kernel": kernel,
        "stride": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": padding,
        "shape": (draw(st.integers(1, 6)), *image),
        "leading": draw(st.tuples(st.integers(1, 3), st.integers(1, 18))),
        "seed": draw(st.integers(0, 1000)),
    }


def random_case(geometry: dict[str, Any], form: str) -> tuple[Array, Array | Spikes, np.random.Generator]:
    """Images (T, B, C, H, W) in float64, and as a layer gets them: "floats", "spikes" or "constant" over T."""
    rng = np.random.default_rng(geometry["seed"])
    steps, batch = geometry["leading"]
    x = rng.normal(size=(steps, batch, *geometry["shape"]))
    if form == "spikes":
        x = (x > 0.5).astype(np.float64)
        return x, pack(x), rng
    return (x[:1], x[:1], rng) if form == "constant" else (x, x, rng)


FORMS = pytest.mark.parametrize("form", ["floats", "constant", "spikes"])


def hold_conv2d_to_the_reference(form: str, geometry: dict[str, Any], outputs: int, bias: bool) -> None:
    """y, dx and all gradients."""
    x, given_x, rng = random_case(geometry, form)
    kernel, stride, padding = (geometry[name] for name in ("kernel", "stride", "padding"))
    layer = snn.Conv2d(
        geometry["shape"][0], outputs, kernel, stride, padding, bias=bias, dtype="float64", seed=geometry["seed"]
    )
    weight, b = layer.state_dict()["weight"], layer.state_dict().get("bias", np.zeros(outputs))
    expected = ref.conv2d_forward(x, weight, b, stride, padding)
    dy = rng.normal(size=expected.shape)
    y, dx = through(layer, given_x, geometry["leading"][0], dy)
    gradients = ref.conv2d_backward(dy, x, weight, stride, padding)
    assert relative_error(y, expected) < EXACT
    assert relative_error(dx, gradients["x"]) < EXACT
    assert layer.gradients.keys() == ({"weight", "bias"} if bias else {"weight"})
    for name, gradient in layer.gradients.items():
        assert relative_error(gradient, gradients[name]) < EXACT, name


def hold_pooling_to_the_reference(kind: type[Layer], form: str, geometry: dict[str, Any]) -> None:
    """y and dx."""
    x, given_x, rng = random_case(geometry, form)
    if form != "spikes":
        x = given_x = np.round(x * 2)  # with equals
    where = [geometry[name] for name in ("kernel", "stride", "padding")]
    forward, backward = POOLS[kind]
    expected = forward(x, *where)
    dy = rng.normal(size=expected.shape)
    layer = kind(*where, dtype="float64")
    y, dx = through(layer, given_x, geometry["leading"][0], dy)
    assert isinstance(y, Spikes) == (form == "spikes" and kind is snn.MaxPool2d)
    assert relative_error(layer._as_floats(y), expected) < EXACT
    assert relative_error(dx, backward(dy, x, *where)) < EXACT
    assert layer.parameters == {}
    assert layer._run_back(dy, input_gradient=False) is None


@pytest.mark.compiled
@FORMS
@settings(max_examples=60, deadline=None)
@given(geometry=geometries(pooling=False), outputs=st.integers(1, 9), bias=st.booleans())
def test_conv2d_is_the_references(form: str, geometry: dict[str, Any], outputs: int, bias: bool) -> None:
    hold_conv2d_to_the_reference(form, geometry, outputs, bias)


@pytest.mark.compiled
@pytest.mark.parametrize("kind", POOLS)
@FORMS
@settings(max_examples=60, deadline=None)
@given(geometry=geometries(pooling=True))
def test_pooling_is_the_references(kind: type[Layer], form: str, geometry: dict[str, Any]) -> None:
    hold_pooling_to_the_reference(kind, form, geometry)


@FORMS
@pytest.mark.parametrize("stride", [(1, 1), (3, 2), (2, 3)])  # neighbours, with one left out between them, or more
def test_any_stride_is_the_references(form: str, stride: tuple[int, int]) -> None:
    geometry = {"stride": stride, "padding": (1, 1), "shape": (2, 5, 37), "leading": (2, 2), "seed": 0}
    hold_conv2d_to_the_reference(form, geometry | {"kernel": (4, 3)}, 3, bias=True)
    for kind in POOLS:
        hold_pooling_to_the_reference(kind, form, geometry | {"kernel": (2, 3)})


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("name", ["conv2d", "avg_pool", "max_pool"])
def test_the_references_backward_is_the_derivative(name: str, stride: tuple[int, int]) -> None:
    rng, where = np.random.default_rng(0), ((3, 2), stride, (1, 1))
    x, weight, bias = rng.normal(size=(2, 2, 5, 6)), rng.normal(size=(3, 2, 3, 2)), rng.normal(size=3)

    def forward(x: Array, weight: Array, bias: Array) -> Array:
        if name == "conv2d":
            return ref.conv2d_forward(x, weight, bias, *where[1:])
        return getattr(ref, f"{name}_forward")(x, *where)

    dy = rng.normal(size=forward(x, weight, bias).shape)
    if name == "conv2d":
        gradients = ref.conv2d_backward(dy, x, weight, *where[1:])
    else:
        gradients = {"x": getattr(ref, f"{name}_backward")(dy, x, *where)}
    inputs = {"x": x, "weight": weight, "bias": bias}
    for of, gradient in gradients.items():
        direction, step = rng.normal(size=inputs[of].shape), 1e-6
        high, low = (forward(**inputs | {of: inputs[of] + sign * step * direction}) for sign in (1, -1))
        # all are linear but at a kink, which is farther off than the step: what is left is cancellation, 1e-16/1e-6
        assert np.sum(dy * (high - low)) / (2 * step) == pytest.approx(np.sum(gradient * direction), rel=1e-7), of


def test_a_window_with_equals_gives_its_gradient_to_the_first() -> None:
    layer = snn.MaxPool2d(2)
    layer.forward(np.zeros((1, 1, 2, 4), np.float32))
    dx = layer.backward(np.array([[[[3, 5]]]], np.float32))
    np.testing.assert_array_equal(dx, [[[[3, 0, 5, 0], [0, 0, 0, 0]]]])


def test_the_largest_of_a_window_with_nan_is_nan() -> None:
    x = np.array([[[[np.nan, 1], [2, 3]]]], np.float32)
    assert np.isnan(snn.MaxPool2d(2).forward(x)).all()


def test_float32_is_exact_on_dyadic_numbers() -> None:
    rng = np.random.default_rng(0)
    layer = snn.Conv2d(3, 5, 3, padding=1)
    state = {name: rng.integers(-64, 65, x.shape) / 64 for name, x in layer.state_dict().items()}
    layer.load_state_dict(state)
    x, dy = rng.integers(-64, 65, (4, 3, 9, 17)) / 64, rng.integers(-64, 65, (4, 5, 9, 17)) / 64
    y, dx = layer.forward(x.astype(np.float32)), layer.backward(dy.astype(np.float32))
    gradients = ref.conv2d_backward(dy, x, state["weight"])
    np.testing.assert_array_equal(y, ref.conv2d_forward(x, state["weight"], state["bias"]))
    np.testing.assert_array_equal(dx, gradients["x"])
    for name, gradient in layer.gradients.items():
        np.testing.assert_array_equal(gradient, gradients[name])


def test_one_layer_takes_images_of_many_sizes() -> None:
    rng = np.random.default_rng(0)
    layer = snn.Conv2d(2, 3, 3, padding=1, dtype="float64", seed=0)
    state = layer.state_dict()
    for size in [(6, 8), (8, 6), (6, 8), (4, 12)]:  # each as many pixels: zeros around them lie elsewhere
        x, dy = rng.normal(size=(2, 2, *size)), rng.normal(size=(2, 3, *size))
        assert relative_error(layer.forward(x), ref.conv2d_forward(x, state["weight"], state["bias"])) < EXACT
        gradients = ref.conv2d_backward(dy, x, state["weight"])
        assert relative_error(layer.backward(dy), gradients["x"]) < EXACT
        assert relative_error(layer.gradients["weight"], gradients["weight"]) < EXACT


def test_same_padding_keeps_the_size_of_an_image() -> None:
    layer = snn.Conv2d(1, 2, (3, 5), padding="same")
    assert layer.forward(np.zeros((2, 1, 7, 9), np.float32)).shape == (2, 2, 7, 9)


def test_weights_are_uniform_within_one_over_the_root_of_fan_in() -> None:
    k = 1 / np.sqrt(4 * 3 * 5)
    rng = np.random.default_rng(7)
    state = snn.Conv2d(4, 6, (3, 5), dtype="float64", seed=7).state_dict()
    np.testing.assert_array_equal(state["weight"], rng.uniform(-k, k, (6, 4, 3, 5)))
    np.testing.assert_array_equal(state["bias"], rng.uniform(-k, k, 6))


def test_flatten_copies_nothing() -> None:
    x = np.zeros((2, 3, 4, 5), np.float32)
    layer = snn.Flatten()
    y = layer.forward(x)
    assert y.shape == (2, 60)
    assert np.shares_memory(x, y)
    assert layer.backward(y).shape == x.shape
    spikes = pack(np.ones((1, 2, 3, 4, 5)))
    flat = layer._run(spikes, 1)
    assert flat.bits is spikes.bits
    assert flat.shape == (60,)


# Dropout ----------------------------------------------------------------------------------------------------


def test_random_bits_are_those_of_splitmix64() -> None:
    with np.errstate(over="ignore"):
        drawn = [int(rules.random_bits(np.uint64(0), np.uint64(n))) for n in range(3)]
    assert drawn == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_keeps_a_share_and_the_mean(p: float, dtype: str) -> None:
    y = snn.Dropout(p, seed=0, dtype=dtype).forward(np.ones((4, 50, 1000), dtype))
    assert set(np.unique(y)) == {0, y.dtype.type(1 / (1 - p))}
    # 200,000 draws: five standard deviations of the share are 0.0056 at most
    assert np.mean(y == 0) == pytest.approx(p, abs=0.0056)
    for axis in ((1, 2), (0, 1)):  # of each step, 50,000 draws, and of each neuron, 200
        share = np.mean(y == 0, axis=axis)
        draws = y.size / share.size
        assert np.abs(share - p).max() < 5 * np.sqrt(p * (1 - p) / draws)


def test_dropout_leaves_out_others_at_each_step_sample_and_call() -> None:
    layer, x = snn.Dropout(0.5, seed=0), np.ones((3, 4, 1000), np.float32)
    masks = np.concatenate([layer.forward(x), layer.forward(x)]).reshape(24, 1000) > 0
    alike = (masks[:, None] == masks).mean(axis=2)[~np.eye(24, dtype=bool)]
    assert 0.4 < alike.min() <= alike.max() < 0.6  # 0.5 +- 6 standard deviations of 1,000 draws
    assert len(np.unique(masks.mean(axis=0))) > 2  # neither are they a row shifted, or a few rows again


def test_dropout_goes_back_through_what_it_kept() -> None:
    layer, rng = snn.Dropout(0.3, seed=1, dtype="float64"), np.random.default_rng(0)
    x, dy = rng.normal(size=(5, 3, 70)) + 9, rng.normal(size=(5, 3, 70))
    factor = layer.forward(x) / x
    assert relative_error(layer.backward(dy), factor * dy) < EXACT


def test_dropout_makes_a_constant_input_vary_and_sums_its_gradient() -> None:
    layer, rng = snn.Dropout(0.3, seed=1, dtype="float64"), np.random.default_rng(0)
    layer._build()
    x, dy = rng.normal(size=(1, 3, 70)) + 9, rng.normal(size=(5, 3, 70))
    y, dx = through(layer, x, 5, dy)
    assert y.shape == (5, 3, 70)
    assert not (y == y[0]).all()
    assert relative_error(dx, (y / x * dy).sum(axis=0, keepdims=True)) < EXACT


def test_dropout_of_spikes_is_that_of_their_floats() -> None:
    x = (np.random.default_rng(0).random((4, 3, 2, 5, 7)) < 0.5).astype(np.float64)
    floats, spikes = (snn.Dropout(0.3, seed=1, dtype="float64") for _ in range(2))
    np.testing.assert_array_equal(spikes._run(pack(x), 4), floats.forward(x))


def test_dropout_does_nothing_outside_of_training() -> None:
    layer, x = snn.Dropout(0.5, seed=0), np.ones((2, 100), np.float32)
    layer.training = False
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(3 * x), 3 * x)
    layer.training = True
    assert (layer.forward(x) == 0).any()


@pytest.mark.parametrize(("p", "factor"), [(0, 1), (1, 0)])
def test_dropout_of_nothing_and_of_all(p: float, factor: float) -> None:
    layer, x = snn.Dropout(p), np.ones((2, 100), np.float32)
    np.testing.assert_array_equal(layer.forward(x), factor * x)
    np.testing.assert_array_equal(layer.backward(3 * x), 3 * factor * x)


# Nets -------------------------------------------------------------------------------------------------------


def image_net(dtype: str = "float32", p: float = 0.2, pool: type[Layer] = snn.MaxPool2d) -> snn.Network:
    """All layers of images: floats constant in time, spikes pooled, convolved with a stride, and left out."""
    return snn.Network(
        snn.Conv2d(2, 5, (4, 3), padding=1),
        snn.RLeaky(beta=0.9, conv2d_channels=5, kernel_size=3),
        pool(2, padding=1),
        snn.Conv2d(5, 3, 3, stride=(2, 1), bias=False),
        snn.Leaky(beta=0.8),
        snn.AvgPool2d((1, 2), stride=1),
        snn.Dropout(p),
        snn.Flatten(),
        snn.Linear(45, 4),
        snn.RLeaky(beta=0.9, linear_features=4, threshold=0.2),
        num_steps=5,
        dtype=dtype,
        seed=0,
    )


def step_of(net: snn.Network, batch: int, inputs: tuple[int, ...] = (2, 13, 14)) -> Callable[[], None]:
    """A function that trains a net by a step on the same batch."""
    rng = np.random.default_rng(1)
    x, y = (4 * rng.random((batch, *inputs))).astype(net.dtype), rng.integers(0, 4, batch)
    loss_fn, optimizer = SF.mse_count_loss(0.8, 0.2), optim.Adam(net)

    def step() -> None:
        spk, _ = net.forward(x)
        _, dspk = loss_fn(spk, y)
        net.backward(dspk=dspk)
        optimizer.step()

    return step


@pytest.mark.compiled
@pytest.mark.parametrize("pool", POOLS)
def test_a_net_of_images_has_the_gradient_of_its_layers_in_turn(pool: type[Layer]) -> None:
    net = image_net("float64", p=0, pool=pool)
    rng = np.random.default_rng(1)
    x, dspk = 4 * rng.random((17, 2, 13, 14)), rng.normal(size=(5, 17, 4))
    spk, mem = net.forward(x)
    dx = net.backward(dspk, input_gradient=True)

    state, steps = net.state_dict(), 5
    pool_forward, pool_backward = POOLS[pool]
    two, beside = ((2, 2), (2, 2), (1, 1)), ((1, 2), (1, 1), (0, 0))
    first = {"weight": state["0.weight"], "padding": (1, 1)}
    second = {"weight": state["3.weight"], "stride": (2, 1), "padding": (0, 0)}
    feedback = {name: state[f"1.recurrent.{name}"] for name in ("weight", "bias")}
    recurrent = {name: state[f"9.recurrent.{name}"] for name in ("weight", "bias")}
    image = ref.conv2d_forward(x, bias=state["0.bias"], **first)
    spk1, _, tape1 = ref.rleaky_forward(np.broadcast_to(image, (steps, *image.shape)), 0.9, **feedback)
    pooled = pool_forward(spk1, *two)
    spk2, _, tape2 = ref.leaky_forward(ref.conv2d_forward(pooled, bias=np.zeros(3), **second), 0.8)
    flat = ref.avg_pool_forward(spk2, *beside).reshape(steps, 17, 45)
    current = ref.linear_forward(flat, state["8.weight"], state["8.bias"])
    spk3, mem3, tape3 = ref.rleaky_forward(current, 0.9, 0.2, **recurrent)
    assert all(0.02 < each.mean() < 0.9 for each in (spk1, spk2, spk3))
    np.testing.assert_array_equal(spk, spk3)
    assert relative_error(mem, mem3) < EXACT

    d3 = ref.rleaky_backward(tape3, dspk)
    fc = ref.linear_backward(d3["current"], flat, state["8.weight"])
    d2 = ref.rleaky_backward(tape2, ref.avg_pool_backward(fc["x"].reshape(steps, 17, 3, 3, 5), spk2, *beside))
    conv2 = ref.conv2d_backward(d2["current"], pooled, **second)
    d1 = ref.rleaky_backward(tape1, pool_backward(conv2["x"], spk1, *two))
    conv1 = ref.conv2d_backward(d1["current"], x, **first)
    expected = {
        "0.weight": conv1["weight"],
        "0.bias": conv1["bias"],
        "1.recurrent.weight": d1["weight"],
        "1.recurrent.bias": d1["bias"],
        "3.weight": conv2["weight"],
        "8.weight": fc["weight"],
        "8.bias": fc["bias"],
        "9.recurrent.weight": d3["weight"],
        "9.recurrent.bias": d3["bias"],
    }
    assert net.gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative_error(net.gradients[name], gradient) < EXACT, name
    assert relative_error(dx, conv1["x"]) < EXACT


def test_a_layer_as_feedback_is_conv2d_feedback() -> None:
    own = snn.RLeaky(beta=0.9, conv2d_channels=3, kernel_size=3, dtype="float64", seed=0)
    given_layer = snn.RLeaky(beta=0.9, recurrent=snn.Conv2d(3, 3, 3, padding="same", dtype="float64"), dtype="float64")
    given_layer.load_state_dict(own.state_dict())
    rng = np.random.default_rng(0)
    x, dspk = 2 * rng.random((6, 2, 3, 5, 6)), rng.normal(size=(6, 2, 3, 5, 6))
    np.testing.assert_array_equal(own.forward(x)[0], given_layer.forward(x)[0])
    assert relative_error(given_layer.backward(dspk), own.backward(dspk)) < EXACT
    for name, gradient in own.gradients.items():
        assert relative_error(given_layer.gradients[name], gradient) < EXACT, name


@pytest.mark.compiled
def test_threads_do_not_change_a_bit(threads: Callable[[int], None]) -> None:
    vectors = []
    for number in (1, 2, 3, 7):
        threads(number)
        net = image_net()
        step = step_of(net, batch=53)
        for _ in range(3):
            step()
        assert 0.01 < net.firing_rates()["4"] < 0.9
        vectors.append(net.vector.copy())
    for other in vectors[1:]:
        np.testing.assert_array_equal(other, vectors[0])


@pytest.mark.compiled
def test_a_training_step_after_the_first_allocates_no_array() -> None:
    net = image_net()
    step = step_of(net, batch=64)
    step()
    assert taken(step) < 32_000  # Python's own objects; the least array of a layer, the Linear's y, has 64 * 5 * 4 * 4
    assert net.layers[1].mem.nbytes > 20 * 32_000


def test_a_net_of_images_is_rebuilt_from_its_config() -> None:
    net = image_net().eval()
    again = snn.Network.from_config(net.config).eval()
    assert repr(again) == repr(net)
    again.load_state_dict(net.state_dict())
    x = 4 * np.random.default_rng(0).random((3, 2, 13, 14), np.float32)
    np.testing.assert_array_equal(again.forward(x)[1], net.forward(x)[1])


def test_the_seed_of_a_net_decides_what_is_left_out() -> None:
    x = 4 * np.random.default_rng(0).random((3, 2, 13, 14), np.float32)
    nets = [image_net(p=0.5), image_net(p=0.5)]
    (_, mem), (_, same) = (net.forward(x) for net in nets)
    np.testing.assert_array_equal(mem, same)
    assert (nets[0].forward(x)[1] != mem).any()


REFUSED = {
    "kernel": (lambda: snn.Conv2d(1, 2, 0), "kernel_size must be an integer of at least 1 or a pair of them; got 0"),
    "kernel of three": (lambda: snn.MaxPool2d((1, 2, 3)), r"kernel_size must be an integer.*; got \(1, 2, 3\)"),
    "kernel of a float": (lambda: snn.AvgPool2d(2.0), "kernel_size must be an integer.*; got 2.0"),
    "channels": (lambda: snn.Conv2d(0, 2, 3), "in_channels must be a positive integer; got 0"),
    "stride": (lambda: snn.Conv2d(1, 2, 3, stride=-1), "stride must be an integer of at least 1.*; got -1"),
    "padding": (lambda: snn.Conv2d(1, 2, 3, padding=3), "padding must be less than kernel_size, 3; got 3"),
    "padding of a word": (lambda: snn.Conv2d(1, 2, 3, padding="valid"), "padding must be \"same\".*; got 'valid'"),
    "same, even": (lambda: snn.Conv2d(1, 2, (2, 3), padding="same"), r'padding="same" needs.*; got 1 and \(2, 3\)'),
    "same, stride": (lambda: snn.Conv2d(1, 2, 3, 2, "same"), 'padding="same" needs stride 1.*; got 2 and 3'),
    "padding of a pool": (lambda: snn.MaxPool2d(3, padding=2), "padding must be at most half of kernel_size, 3; got 2"),
    "p": (lambda: snn.Dropout(1.5), "p must be a number from 0 to 1; got 1.5"),
    "p of a word": (lambda: snn.Dropout("half"), "p must be a number from 0 to 1; got 'half'"),
    "small image": (
        lambda: snn.Conv2d(1, 2, 5, padding=1).forward(np.zeros((1, 1, 2, 9), np.float32)),
        r"Conv2d\(1, 2, 5, padding=1\) takes images that its kernel fits into, padding included; got \(1, 2, 9\)",
    ),
    "small image to pool": (
        lambda: snn.AvgPool2d(4).forward(np.zeros((1, 1, 9, 3), np.float32)),
        r"AvgPool2d\(4\) takes images that its kernel fits into, padding included; got \(1, 9, 3\)",
    ),
    "channels of an image": (
        lambda: snn.Conv2d(3, 2, 5).forward(np.zeros((1, 1, 9, 9), np.float32)),
        r"Conv2d\(3, 2, 5\) takes images of 3 channels; got \(1, 9, 9\)",
    ),
    "rows in a net": (
        lambda: snn.Network(snn.Linear(8, 9), snn.MaxPool2d(2), snn.Leaky(beta=0.9), num_steps=2),
        r"layer 1: MaxPool2d\(2\) takes images \(C, H, W\); got \(9,\)",
    ),
    "config": (
        lambda: snn.Network.from_config({"layers": [{"layer": "Dropout", "p": 2}], "num_steps": 1, "dtype": "float32"}),
        "layer 0, Dropout: p must be a number from 0 to 1; got 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_named(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_repr_shows_what_is_not_the_default() -> None:
    assert repr(snn.Conv2d(1, 2, (3, 5), (2, 1), bias=False)) == "Conv2d(1, 2, (3, 5), stride=(2, 1), bias=False)"
    assert repr(snn.MaxPool2d(3, 2, 1)) == "MaxPool2d(3, stride=2, padding=1)"
    assert repr(snn.Dropout()) == "Dropout(0.5)"
