"""Options of the spiking layers: inhibition, quantised and hidden states, feedbacks of the user's own, windows."""

from typing import Any

import numpy as np
import pytest
import reference as ref
from reference import relative_error

import snnumba as snn
from snnumba import functional as SF
from snnumba import surrogate

RESETS = ["subtract", "zero", "none"]
QUANT = SF.quant.state_quant(num_bits=4, lower_limit=0.5, upper_limit=1.0)


def arrays(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Random arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0.3, 0.7, shape) for shape in shapes]


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("option", ["inhibition", "state_quant"])
@pytest.mark.parametrize("kind", ["Leaky", "one-to-one", "linear", "conv2d"])
def test_inhibition_and_quantised_states_equal_the_reference(
    kind: str, option: str, reset: str, reset_delay: bool
) -> None:
    shape = (2, 4, 5) if kind == "conv2d" else (70,)
    current, dspk, dmem = arrays(1, *[(6, 19, *shape)] * 3)
    mem0, threshold = arrays(2, (19, *shape), shape)
    common: dict[str, Any] = {"reset_mechanism": reset, "reset_delay": reset_delay}
    options: dict[str, Any] = {"learn_beta": True, "learn_threshold": True, "dtype": "float64", "threshold": threshold}
    options |= {option: True} if option == "inhibition" else {option: QUANT}
    layer: snn.Leaky | snn.RLeaky
    weights = {}
    if kind == "Leaky":
        layer = snn.Leaky(0.8, **common, **options)
    elif kind == "one-to-one":
        layer = snn.RLeaky(0.8, V=-0.5, all_to_all=False, **common, **options)
        weights = {"V": -0.5}
    else:
        feedback = {"linear_features": 70} if kind == "linear" else {"conv2d_channels": 2, "kernel_size": 3}
        layer = snn.RLeaky(0.8, **feedback, seed=0, **common, **options)
        weights = {name.removeprefix("recurrent."): x for name, x in layer.parameters.items() if "recurrent" in name}
    extra = {"inhibition": True} if option == "inhibition" else {"levels": np.array(QUANT.levels)}
    spk, mem = layer.forward(current, mem0=mem0)
    dcurrent = layer.backward(dspk, dmem)
    spk_ref, mem_ref, tape = ref.rleaky_forward(current, 0.8, threshold, mem0=mem0, **weights, **common, **extra)
    expected = ref.rleaky_backward(tape, dspk, dmem)
    np.testing.assert_array_equal(spk, spk_ref)
    assert spk.any()
    if option == "inhibition":
        assert spk.sum(axis=tuple(range(2, spk.ndim))).max() == 1
    assert relative_error(mem, mem_ref) < 1e-12  # sums in another order, over 6 steps
    got = {"current": dcurrent, "mem0": layer.dmem0}
    got |= {name.removeprefix("recurrent."): x for name, x in layer.gradients.items()}
    for name in got:
        assert relative_error(got[name], expected[name]) < 1e-11, name
    assert {"beta", "threshold"} < got.keys()


def test_of_equal_membranes_the_first_neuron_spikes() -> None:
    layer = snn.Leaky(beta=0.9, inhibition=True)
    spk, _ = layer.forward(np.full((1, 3), 2.0, np.float32))
    np.testing.assert_array_equal(spk, [[1, 0, 0]])


def test_a_state_half_way_between_two_levels_takes_the_lower_and_beyond_them_the_last() -> None:
    levels = SF.quant.StateQuant([1.0, 0.0, 0.5])
    layer = snn.Leaky(beta=0.0, threshold=9.0, state_quant=levels)
    x = np.array([[-3.0, 0.0, 0.25, 0.26, 0.5, 0.75, 0.76, 3.0]], np.float32)
    _, mem = layer.forward(x)
    np.testing.assert_array_equal(mem, [[0, 0, 0, 0.5, 0.5, 0.5, 1, 1]])
    np.testing.assert_array_equal(mem, levels(x))


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_quantised_levels_span_the_limits(bits: int) -> None:
    for uniform, centred in [(True, True), (False, True), (False, False)]:
        levels = SF.quant.state_quant(bits, uniform, centred, threshold=2.0, lower_limit=0.1, upper_limit=0.3).levels
        assert len(levels) == 2**bits
        assert levels[-1] == pytest.approx(2.6)
        assert uniform is False or levels[0] == pytest.approx(-2.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bits": 0}, "num_bits must be an integer from 1 to 16; got 0"),
        ({"threshold": -1.0}, "threshold must be a finite number above 0; got -1.0"),
        ({"upper_limit": float("nan")}, "upper_limit must be a finite number of at least 0; got nan"),
        ({"multiplier": 0.0}, "multiplier must be a finite number above 0; got 0.0"),
    ],
)
def test_wrong_quantisations_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SF.quant.state_quant(**arguments)


def test_a_state_quant_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"state_quant must be made by functional.quant.state_quant, or False; got 4"):
        snn.Leaky(0.9, state_quant=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels must be finite numbers, at least one"):
        SF.quant.StateQuant([])
    with pytest.raises(TypeError, match=r"levels must be numbers; got \['low', 'high'\]"):
        SF.quant.StateQuant(["low", "high"])  # type: ignore[list-item]


def test_init_hidden_keeps_the_state_in_the_layer_and_gives_the_spikes_alone() -> None:
    x = np.random.default_rng(0).random((10, 4))
    for kind in (lambda **o: snn.Leaky(0.9, **o), lambda **o: snn.RLeaky(0.9, V=0.5, all_to_all=False, **o)):
        spk, mem = kind().forward(x.astype(np.float32))
        hidden, both = kind(init_hidden=True), kind(init_hidden=True, output=True)
        for _ in range(2):
            for step in range(10):
                np.testing.assert_array_equal(hidden(x[step]), spk[step])
                np.testing.assert_array_equal(both(x[step]), (spk[step], mem[step]))
            hidden.reset_mem()
            both.reset_mem()
        assert spk.any()


def test_a_state_left_out_is_the_one_of_the_last_call() -> None:
    layer = snn.RLeaky(0.9, V=0.5, all_to_all=False)
    first = layer(np.full(3, 0.8))
    np.testing.assert_array_equal(layer(np.full(3, 0.8)), layer(np.full(3, 0.8), *first))
    assert layer(np.full(5, 0.8))[1][0] == np.float32(0.8)  # of another shape: from rest


def test_a_state_given_to_a_layer_that_keeps_its_own_is_refused() -> None:
    layer = snn.RLeaky(0.9, all_to_all=False, init_hidden=True)
    with pytest.raises(TypeError, match="spk and mem must not be given where init_hidden=True"):
        layer(np.zeros(3), *layer.init_rleaky())
    with pytest.raises(ValueError, match=r"mem must be \(3,\), or one number; got \(2,\)"):
        snn.Leaky(0.9)(np.zeros(3), np.zeros(2))


def test_a_linear_layer_as_feedback_is_the_linear_feedback() -> None:
    current, spk0, mem0, dspk, dmem = arrays(3, (7, 18, 9), (18, 9), (18, 9), (7, 18, 9), (7, 18, 9))
    options: dict[str, Any] = {"learn_beta": True, "learn_threshold": True, "dtype": "float64", "seed": 0}
    built_in = snn.RLeaky(0.9, linear_features=9, **options)
    own = snn.RLeaky(0.9, recurrent=snn.Linear(9, 9), **options)
    own.load_state_dict(built_in.state_dict())
    for layer in (built_in, own):
        layer.forward(current, spk0, mem0)
    expected = built_in.forward(current, spk0, mem0)
    for got, want in zip(own.forward(current, spk0, mem0), expected, strict=True):
        assert relative_error(got, want) < 1e-14  # the rows of fed-back spikes are added in another order
    assert relative_error(own.backward(dspk, dmem), built_in.backward(dspk, dmem)) < 1e-12
    assert own.gradients.keys() == built_in.gradients.keys()
    for name, gradient in built_in.gradients.items():
        assert relative_error(own.gradients[name], gradient) < 1e-12, name
    for name in ("dspk0", "dmem0"):
        assert relative_error(getattr(own, name), getattr(built_in, name)) < 1e-12, name


def test_a_stack_with_neurons_as_feedback_has_the_gradient_of_its_parts_in_turn() -> None:
    """Linear, Leaky and Linear in the feedback, whose Leaky goes on from step to step."""
    steps, batch, n, inside = 6, 5, 8, 4
    current, dspk, dmem = arrays(4, *[(steps, batch, n)] * 3)
    stack = [snn.Linear(n, inside), snn.Leaky(0.7, learn_beta=True, threshold=0.3), snn.Linear(inside, n)]
    layer = snn.RLeaky(0.9, recurrent=stack, dtype="float64", seed=1)
    spk, mem = layer.forward(current)
    dcurrent = layer.backward(dspk, dmem)

    p = layer.state_dict()
    first, last = ((p[f"recurrent.{k}.weight"], p[f"recurrent.{k}.bias"]) for k in (0, 2))
    s = u = np.zeros((batch, n))
    mem_in = np.zeros((batch, inside))
    kept = []
    for t in range(steps):
        current_in = ref.linear_forward(s, *first)
        spk_in, after_in, tape_in = ref.leaky_forward(current_in[None], 0.7, 0.3, mem0=mem_in)
        i = current[t] + ref.linear_forward(spk_in[0], *last)
        spk_t, mem_t, tape = ref.leaky_forward(i[None], 0.9, mem0=u)
        kept.append((s, tape_in, spk_in[0], tape))
        s, u, mem_in = spk_t[0], mem_t[0], after_in[0]
        np.testing.assert_array_equal(spk[t], s)
        assert relative_error(mem[t], u) < 1e-12
    assert 0 < np.mean([x[2] for x in kept]) < 1

    names = [f"recurrent.{k}.{name}" for k in (0, 2) for name in ("weight", "bias")]
    total: dict[str, Any] = dict.fromkeys([*names, "recurrent.1.beta"], 0)
    ds, du, dmem_in = np.zeros((batch, n)), np.zeros((batch, n)), np.zeros((batch, inside))
    for t in reversed(range(steps)):
        s, tape_in, spk_in, tape = kept[t]
        back = ref.leaky_backward(tape, (dspk[t] + ds)[None], (dmem[t] + du)[None])
        du = back["mem0"]
        assert relative_error(dcurrent[t], back["current"][0]) < 1e-11
        outer = ref.linear_backward(back["current"][0], spk_in, last[0])
        within = ref.leaky_backward(tape_in, outer["x"][None], dmem_in[None])
        dmem_in = within["mem0"]
        inner = ref.linear_backward(within["current"][0], s, first[0])
        ds = inner["x"]
        for k, gradients in ((0, inner), (2, outer)):
            for name in ("weight", "bias"):
                total[f"recurrent.{k}.{name}"] += gradients[name]
        total["recurrent.1.beta"] += within["beta"]
    assert layer.gradients.keys() == total.keys()
    for name, gradient in total.items():
        assert relative_error(layer.gradients[name], gradient) < 1e-11, name
    assert relative_error(layer.dspk0, ds) < 1e-11
    assert relative_error(layer.dmem0, du) < 1e-11

    stepped = []
    state = layer.init_rleaky()
    for t in range(steps):
        state = layer(current[t], *state)
        stepped.append(state[1])
    assert relative_error(np.array(stepped), mem) < 1e-14  # the first step's rows are added in another order


def test_a_net_with_a_feedback_of_its_own_is_rebuilt_from_its_config_and_trains_in_one_vector() -> None:
    def made(**options: Any) -> snn.Network:
        feedback = [snn.Linear(5, 3), snn.RLeaky(0.8, all_to_all=False), snn.Linear(3, 5, bias=False)]
        layers = snn.Linear(4, 5), snn.RLeaky(0.9, recurrent=feedback, state_quant=QUANT, **options)
        return snn.Network(*layers, num_steps=6, seed=3)

    net = made()
    x, dspk = arrays(5, (7, 4), (6, 7, 5))
    spk, mem = net.forward((3 * x).astype(np.float32))
    net.backward(dspk=dspk.astype(np.float32))
    assert {"1.recurrent.0.weight", "1.recurrent.1.V", "1.recurrent.2.weight"} < net.gradients.keys()
    assert all(gradient.any() for gradient in net.gradients.values())
    assert sum(x.size for x in net.parameters.values()) <= net.vector.size
    net.vector[:] = 0
    assert not net.parameters["1.recurrent.0.weight"].any()
    again = snn.Network.from_config(net.config)
    again.load_state_dict(made().state_dict())
    np.testing.assert_array_equal(again.forward((3 * x).astype(np.float32)), (spk, mem))
    frozen = made(learn_recurrent=False)
    assert set(frozen.parameters) == {"0.weight", "0.bias"}
    assert again.config == net.config


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recurrent": snn.Linear(3, 4)}, ValueError, r"recurrent must give what has the shape of its input; it makes"),
        ({"recurrent": [snn.Linear(3, 4), snn.Linear(5, 3)]}, ValueError, r"recurrent.1: Linear.* takes inputs of sha"),
        ({"recurrent": []}, TypeError, r"recurrent must be a layer or a list of layers; got \[\]"),
        ({"recurrent": "linear"}, TypeError, "recurrent must be a layer or a list of layers; got 'linear'"),
        (
            {"recurrent": snn.Linear(3, 3), "linear_features": 3},
            ValueError,
            "recurrent=.* and linear_features=3 con",
        ),
        ({"recurrent": snn.Linear(3, 3), "all_to_all": False}, ValueError, "all_to_all=False and recurrent=.* contrad"),
        ({"linear_features": 3, "V": 2.0}, ValueError, "linear_features=3 and V=2.0 contradict each other"),
        (
            {"conv2d_channels": 3, "kernel_size": 3, "V": 2.0},
            ValueError,
            "conv2d_channels=3 and V=2.0 contradict each other",
        ),
    ],
)
def test_feedbacks_that_cannot_be_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        snn.RLeaky(0.9, **arguments)


def test_a_feedback_layer_is_used_nowhere_else_and_has_the_dtype_of_its_neurons() -> None:
    shared = snn.Linear(3, 3)
    snn.RLeaky(0.9, recurrent=shared)
    with pytest.raises(ValueError, match="recurrent must be layers that are used nowhere else"):
        snn.RLeaky(0.9, recurrent=shared)
    with pytest.raises(ValueError, match=r"layer 0, .* is in another net already"):
        snn.Network(shared, snn.RLeaky(0.9, linear_features=3), num_steps=2)
    double = snn.RLeaky(0.9, recurrent=snn.Linear(3, 3, dtype="float64"))
    with pytest.raises(ValueError, match=r"Linear\(3, 3\) is float64; the layer whose feedback it is in is float32"):
        double.forward(np.zeros((2, 3), np.float32))


def test_windows_with_the_state_carried_give_the_run_and_cut_its_gradient() -> None:
    x, dmem = arrays(6, (12, 5, 4), (12, 5, 3))
    net = snn.Network(
        snn.Linear(4, 6),
        snn.RLeaky(0.9, linear_features=6),
        snn.Leaky(0.8),
        snn.Linear(6, 3),
        snn.RLeaky(0.9, recurrent=[snn.Linear(3, 3), snn.Leaky(0.5)]),
        num_steps=12,
        dtype="float64",
        seed=0,
    )
    spk, mem = net.forward(2 * x)
    got = []
    gradients = []
    for begin in range(0, 12, 4):
        got.append(net.forward(2 * x[begin : begin + 4], num_steps=4))
        net.backward(dmem=dmem[begin : begin + 4])
        gradients.append({name: gradient.copy() for name, gradient in net.gradients.items()})
        net.detach()
    for k, whole in enumerate((spk, mem)):
        assert relative_error(np.concatenate([window[k] for window in got]), whole) < 1e-14
    assert spk.any()

    alone = snn.RLeaky(0.9, linear_features=6, dtype="float64")
    alone.load_state_dict({name.removeprefix("1."): v for name, v in net.state_dict().items() if name[0] == "1"})
    net.reset()
    assert relative_error(net.forward(2 * x)[1], mem) < 1e-14  # and from rest without detach
    net.detach()
    with pytest.raises(ValueError, match=r"x must have 5 samples, as layer 1 had at detach\(\); got 2"):
        net.forward(x[:, :2])
    net.reset()
    net.forward(2 * x[:4], num_steps=4)
    net.backward(dmem=dmem[:4])
    for name, gradient in net.gradients.items():  # the first window is a run of its own
        assert relative_error(gradient, gradients[0][name]) < 1e-12
    assert any(relative_error(gradients[1][name], gradients[0][name]) > 0.1 for name in gradients[0])


def test_a_window_takes_the_state_as_a_constant() -> None:
    current, dmem = arrays(7, (5, 3, 6), (5, 3, 6))
    layer = snn.RLeaky(0.9, linear_features=6, dtype="float64", seed=0)
    net = snn.Network(snn.RLeaky(0.9, linear_features=6, dtype="float64"), num_steps=5, dtype="float64")
    net.load_state_dict({f"0.{name}": x for name, x in layer.state_dict().items()})
    net.forward(current)
    net.detach()
    spk, mem = net.layers[0].forward(current)  # type: ignore[attr-defined]
    got = net.forward(current)
    net.backward(dmem=dmem)
    expected = layer.forward(current, spk[-1], mem[-1])
    layer.backward(dmem=dmem)
    np.testing.assert_array_equal(got, expected)
    for name, gradient in layer.gradients.items():
        np.testing.assert_array_equal(net.gradients[f"0.{name}"], gradient)


def test_detach_needs_a_forward_pass() -> None:
    net = snn.Network(snn.Leaky(0.9), num_steps=3)
    with pytest.raises(RuntimeError, match="detach needs a forward pass before it"):
        net.detach()


def test_a_layer_run_alone_between_the_passes_of_its_net_is_noticed() -> None:
    net = snn.Network(snn.Linear(4, 3), snn.RLeaky(0.9, linear_features=3), num_steps=5, seed=0)
    x = np.ones((6, 4), np.float32)
    for k, alone in ((0, np.ones((1, 4), np.float32)), (1, np.ones((5, 6, 3), np.float32))):
        spk, _ = net.forward(x)
        net.layers[k].forward(alone)  # type: ignore[attr-defined]
        for use in (lambda spk=spk: net.backward(dspk=spk), net.detach, net.firing_rates):
            with pytest.raises(
                RuntimeError, match=f"needs a forward pass before it: layer {k}, .* was run alone since"
            ):
                use()


def test_steps_of_a_layer_and_runs_over_time_keep_their_states_apart() -> None:
    def made() -> snn.RLeaky:
        feedback = [snn.SLSTM(3, 3, threshold=0.05), snn.Leaky(0.5, threshold=0.2)]
        return snn.RLeaky(0.9, recurrent=feedback, dtype="float64", seed=0)

    x = arrays(8, (6, 5, 3))[0]
    layer, undisturbed = made(), made()
    for t in range(6):
        expected = undisturbed(x[t])
        np.testing.assert_array_equal(layer(x[t]), expected)
        layer.forward(x[:2, :1])  # of another batch
    net = snn.Network(made(), num_steps=6, dtype="float64")
    whole = [array.copy() for array in net.forward(x)]
    net.forward(x[:3], num_steps=3)
    net.detach()
    net.layers[0](x[0, :2])  # type: ignore[operator]
    np.testing.assert_array_equal(net.forward(x[3:], num_steps=3)[1], whole[1][3:])


def test_wrong_steps_are_refused_by_the_name_that_was_given() -> None:
    layer = snn.RLeaky(0.9, linear_features=3)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (np.ones(4), ValueError, r"x must be \(3,\), or have a batch axis before; got \(4,\)"),
        ("abc", TypeError, "x must be real numbers; got <U3"),
        (np.ones(3) * 1j, TypeError, "x must be real numbers; got complex128"),
        (None, TypeError, "x must be real numbers; got object"),
    ]
    for x, error, message in wrong:
        with pytest.raises(error, match=message):
            layer(x)
    with pytest.raises(ValueError, match=r"x must be \(N,\) or \(C, H, W\), or have a batch axis before, none empty"):
        snn.Leaky(0.9)(np.ones((2, 0)))


def test_a_stateless_layer_is_called_step_by_step_as_in_torch() -> None:
    fc, pool = snn.Linear(4, 2, seed=0), snn.MaxPool2d(2)
    x = np.random.default_rng(0).random((3, 4))
    np.testing.assert_array_equal(fc(x), fc.forward(x.astype(np.float32)))
    assert relative_error(fc(x[1]), fc(x)[1]) < 1e-6  # float32, the rows in another order
    np.testing.assert_array_equal(
        pool(x.reshape(3, 2, 2)), x.reshape(3, 4).max(axis=1).astype(np.float32)[:, None, None]
    )


@pytest.mark.parametrize("value", [float("nan"), "a", np.ones(2), True])
def test_parameters_of_a_surrogate_are_finite_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="slope of fast_sigmoid must be a finite number; got"):
        surrogate.fast_sigmoid(value)


def test_flags_are_true_or_false_and_kernel_sizes_whole() -> None:
    with pytest.raises(TypeError, match="inhibition must be True or False; got 'yes'"):
        snn.Leaky(0.9, inhibition="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kernel_size must be an odd int or a pair of them; got True"):
        snn.RLeaky(0.9, conv2d_channels=2, kernel_size=True)
    layer = snn.RLeaky(0.9, conv2d_channels=2, kernel_size=np.int64(3))  # type: ignore[arg-type]
    assert layer.config["kernel_size"] == 3
    assert type(layer.config["kernel_size"]) is int


def test_a_state_of_snntorch_with_its_two_names_of_V_is_taken() -> None:
    layer = snn.RLeaky(0.9, all_to_all=False)
    layer.load_state_dict({"beta": 0.9, "threshold": 1.0, "V": 0.5, "recurrent.V": 0.5, "graded_spikes_factor": 1.0})
    assert layer.V == 0.5


def test_a_V_that_does_not_fit_the_neurons_of_its_net_is_refused_at_once() -> None:
    layer = snn.RLeaky(0.9, all_to_all=False, learn_recurrent=False)
    net = snn.Network(snn.Linear(2, 3), layer, num_steps=2)
    with pytest.raises(ValueError, match=r"V of shape \(4,\) does not fit neurons of shape \(3,\)"):
        layer.V = np.ones(4)
    layer.V = [1.0, 2.0, 3.0]
    net.forward(np.ones((1, 2), np.float32))


def test_what_needs_a_run_before_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="firing_rate needs a forward pass before it"):
        snn.Leaky(0.9).firing_rate()
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        snn.Linear(2, 3).backward(np.ones((1, 3), np.float32))


def test_a_graded_factor_learns_nothing_from_membranes() -> None:
    layer = snn.Leaky(0.9, learn_graded_spikes_factor=True)
    layer.forward(np.full((3, 2, 4), 2, np.float32))
    layer.backward(dspk=np.ones((3, 2, 4), np.float32))
    assert layer.gradients["graded_spikes_factor"] > 0
    layer.backward(dmem=np.ones((3, 2, 4), np.float32))
    assert layer.gradients["graded_spikes_factor"] == 0


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda: snn.Leaky(0.9), (2, 3), r"takes inputs of a shape \(N,\) or \(C, H, W\); got \(2, 3\)"),
        (
            lambda: snn.RLeaky(0.9, conv2d_channels=2, kernel_size=3),
            (3, 5, 5),
            r"conv2d_channels=2 takes inputs of a shape \(2, H, W\); got \(3, 5, 5\)",
        ),
    ],
)
def test_neurons_of_a_shape_that_cannot_be_are_refused(layer: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer().out_shape(shape)


def test_repr_shows_the_layers_of_a_feedback() -> None:
    layer = snn.RLeaky(0.5, recurrent=[snn.Linear(3, 2), snn.Linear(2, 3)])
    assert repr(layer) == "RLeaky(beta=0.5, recurrent=[Linear(3, 2), Linear(2, 3)])"


def test_a_net_is_made_of_layers_and_goes_back_from_some_gradient() -> None:
    with pytest.raises(TypeError, match="layers must be snnumba layers; argument 1 is 'Leaky'"):
        snn.Network(snn.Linear(2, 3), "Leaky", num_steps=5)  # type: ignore[arg-type]
    net = snn.Network(snn.Linear(2, 3), snn.Leaky(0.9), num_steps=5)
    net.forward(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="dspk or dmem must be given; got neither"):
        net.backward()
