"""SLSTM and its kernels against snnTorch's own numbers and the float64 reference."""

from typing import Any

import numpy as np
import pytest
import reference as ref
from golden_files import cases, load
from reference import relative_error
from targets import moved, on_every_target, on_host
from test_neurons import TOLERANCE, golden_surrogate

import snnumba as snn
from snnumba import functional as SF
from snnumba import surrogate


def cells(weights: dict[str, np.ndarray], dtype: str = "float64", **options: Any) -> snn.SLSTM:
    """A layer with these weights, by their names in lstm_cell."""
    rows, inputs = weights["weight_ih"].shape
    layer = snn.SLSTM(inputs, rows // 4, bias="bias_ih" in weights, dtype=dtype, **options)
    layer.load_state_dict(layer.state_dict() | {f"lstm_cell.{name}": x for name, x in weights.items()})
    return layer


@on_every_target
@pytest.mark.parametrize("case", cases("slstm.h5"))
def test_golden_cells(case: str, dtype: str, device: str) -> None:
    config, data = load("slstm.h5", case)
    names = [name for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if name in data]
    layer = cells(
        {name: data[name] for name in names},
        dtype,
        threshold=data["threshold"],
        learn_threshold=config["learn_threshold"],
        reset_mechanism=config["reset_mechanism"],
        spike_grad=golden_surrogate(**config["surrogate"]),
    )
    moved(layer, device)
    typed = {name: x.astype(dtype) for name, x in data.items()}
    made = layer.forward(typed["x"], typed.get("syn0"), typed.get("mem0"))
    dx = layer.backward(typed["gS"], typed["gC"], typed["gU"])
    np.testing.assert_array_equal(on_host(made[0]), data["spk"])
    for got, name in zip(made[1:], ("syn", "mem"), strict=True):
        assert relative_error(on_host(got), data[name]) < TOLERANCE[dtype], name
    gradients = {"x": dx, "syn0": layer.dsyn0, "mem0": layer.dmem0}
    gradients |= {name.removeprefix("lstm_cell."): x for name, x in layer.gradients.items()}
    expected = {name.removeprefix("grad_"): x for name, x in data.items() if name.startswith("grad_")}
    assert {"x", "threshold", *names} <= expected.keys()
    for name, x in expected.items():
        assert relative_error(on_host(gradients[name]), x) < TOLERANCE[dtype], name


@pytest.mark.parametrize("reset", ["none", "subtract", "zero"])
@pytest.mark.parametrize(
    ("batch", "inputs", "hidden"),
    [(1, 1, 1), *(pytest.param(*sizes, marks=pytest.mark.compiled) for sizes in ((18, 5, 70), (33, 70, 9)))],
)
def test_forward_and_backward_equal_the_reference(batch: int, inputs: int, hidden: int, reset: str) -> None:
    rng = np.random.default_rng(hidden)
    threshold = rng.uniform(-0.2, 0.2, hidden)
    layer = snn.SLSTM(
        inputs, hidden, threshold=threshold, learn_threshold=True, reset_mechanism=reset, dtype="float64", seed=0
    )
    x = rng.normal(0, 2, (6, batch, inputs))
    dspk, dsyn, dmem = (rng.normal(size=(6, batch, hidden)) for _ in range(3))
    syn0, mem0 = (rng.normal(size=(batch, hidden)) for _ in range(2))
    weights = {name.removeprefix("lstm_cell."): w for name, w in layer.parameters.items()}
    weights.pop("threshold")
    *expected, tape = ref.slstm_forward(x, **weights, threshold=threshold, reset_mechanism=reset, syn0=syn0, mem0=mem0)
    gradients = ref.slstm_backward(tape, dspk, dsyn, dmem)
    made = layer.forward(x, syn0, mem0)
    got = {"x": layer.backward(dspk, dsyn, dmem), "syn0": layer.dsyn0, "mem0": layer.dmem0}
    got |= {name.removeprefix("lstm_cell."): g for name, g in layer.gradients.items()}
    np.testing.assert_array_equal(made[0], expected[0])
    assert 0 < made[0].mean() < 1 or hidden == 1
    for a, b in zip(made[1:], expected[1:], strict=True):
        assert relative_error(a, b) < 1e-12  # sums in another order, over 6 steps
    assert got.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert relative_error(got[name], gradient) < 1e-11, name


def test_step_by_step_gives_what_a_run_over_time_gives() -> None:
    x = np.random.default_rng(0).normal(size=(10, 2, 3))
    layer = snn.SLSTM(3, 5, threshold=0.05, reset_mechanism="subtract", dtype="float64", seed=0)
    expected = layer.forward(x)
    syn, mem = layer.init_slstm()
    hidden = snn.SLSTM(3, 5, threshold=0.05, reset_mechanism="subtract", init_hidden=True, dtype="float64", seed=0)
    for step in range(10):
        spk, syn, mem = layer(x[step], syn, mem)
        np.testing.assert_array_equal((spk, syn, mem), [made[step] for made in expected])
        np.testing.assert_array_equal(hidden(x[step]), spk)
    assert expected[0].any()
    with pytest.raises(TypeError, match="syn and mem must not be given where init_hidden=True"):
        hidden(x[0], syn, mem)


def test_a_net_of_cells_carries_spikes_on_and_takes_a_constant_input_once() -> None:
    net = snn.Network(
        snn.SLSTM(4, 6, threshold=0.05),
        snn.SLSTM(6, 3, threshold=0.02, bias=False, learn_threshold=True),
        num_steps=7,
        dtype="float64",
        seed=0,
    )
    x = np.random.default_rng(1).normal(0, 3, (5, 4))
    dspk, dmem = (np.random.default_rng(k).normal(size=(7, 5, 3)) for k in (2, 3))
    spk, mem = net.forward(x)
    dx = net.backward(dspk, dmem, input_gradient=True)
    state = net.state_dict()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    first, second = (
        {name: state[f"{k}.lstm_cell.{name}"] for name in names if f"{k}.lstm_cell.{name}" in state} for k in (0, 1)
    )
    spk1, _, _, tape1 = ref.slstm_forward(np.broadcast_to(x, (7, 5, 4)), **first, threshold=0.05)
    spk2, _, mem2, tape2 = ref.slstm_forward(spk1, **second, threshold=0.02)
    back2 = ref.slstm_backward(tape2, dspk, None, dmem)
    back1 = ref.slstm_backward(tape1, back2["x"])
    np.testing.assert_array_equal(spk, spk2)
    assert spk1.any()
    assert spk2.any()
    assert relative_error(mem, mem2) < 1e-12
    assert dx is not None
    assert relative_error(dx, back1["x"].sum(axis=0)) < 1e-11
    for k, back in ((0, back1), (1, back2)):
        for name, gradient in net.layers[k].gradients.items():
            assert relative_error(gradient, back[name.removeprefix("lstm_cell.")]) < 1e-11, name
    again = snn.Network.from_config(net.config)
    again.load_state_dict(state)
    np.testing.assert_array_equal(again.forward(x), (spk, mem))
    assert 0 < net.firing_rates()["0"] < 1


def test_windows_of_cells_give_the_run() -> None:
    x = np.random.default_rng(0).normal(0, 3, (9, 2, 4))
    net = snn.Network(snn.SLSTM(4, 3, threshold=0.1), num_steps=9, dtype="float64", seed=0)
    expected = [made.copy() for made in net.forward(x)]
    got = []
    for window in np.split(x, 3):
        got.append(net.forward(window, num_steps=3))
        net.detach()
    for k in range(2):
        np.testing.assert_array_equal(np.concatenate([window[k] for window in got]), expected[k])


def test_inhibition_lets_one_cell_spike_and_quantised_states_are_levels() -> None:
    x = np.random.default_rng(0).normal(0, 3, (6, 8, 4)).astype(np.float32)
    options: dict[str, Any] = {"threshold": -0.1, "seed": 0}
    free, _, mem = snn.SLSTM(4, 5, **options).forward(x)
    one = snn.SLSTM(4, 5, inhibition=True, **options)
    spk, _, _ = one.forward(x)
    assert free.sum(axis=2).max() > 1
    np.testing.assert_array_equal(spk.sum(axis=2), (mem.max(axis=2) > -0.1))
    np.testing.assert_array_equal(spk.argmax(axis=2)[spk.any(axis=2)], mem.argmax(axis=2)[spk.any(axis=2)])
    quant = SF.quant.state_quant(3)
    _, syn, mem = snn.SLSTM(4, 5, state_quant=quant, **options).forward(x)
    for state in (syn, mem):
        assert np.isin(state, np.array(quant.levels, np.float32)).all()


def test_a_custom_surrogate_takes_the_place_of_the_built_in_one() -> None:
    x = np.random.default_rng(0).normal(0, 3, (4, 2, 3))
    got = []
    for spike_grad in (surrogate.LSO(0.3), surrogate.custom_surrogate(lambda x: 1.0 if x > 0 else 0.3)):
        layer = snn.SLSTM(3, 4, threshold=0.1, spike_grad=spike_grad, dtype="float64", seed=0)
        got.append(layer.backward(dspk=np.ones_like(layer.forward(x)[0])))
    np.testing.assert_array_equal(got[0], got[1])
    assert got[0].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size must be a positive integer; got 0"),
        ({"hidden_size": 2.0}, "hidden_size must be a positive integer; got 2.0"),
        ({"threshold": [1.0, 2.0]}, r"threshold of shape \(2,\) does not fit neurons of shape \(3,\)"),
        ({"reset_mechanism": "half"}, "reset_mechanism must be one of subtract, zero, none; got 'half'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        snn.SLSTM(**{"input_size": 4, "hidden_size": 3} | arguments)


def test_wrong_inputs_are_refused() -> None:
    layer = snn.SLSTM(4, 3)
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        layer.backward()
    with pytest.raises(ValueError, match=r"x must be \(T, B, 4\); got \(5, 2, 3\)"):
        layer.forward(np.zeros((5, 2, 3), np.float32))
    layer.forward(np.zeros((5, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"dsyn must be \(5, 2, 3\); got \(5, 2, 4\)"):
        layer.backward(dsyn=np.zeros((5, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"syn0 must be \(2, 3\)"):
        layer.forward(np.zeros((5, 2, 4), np.float32), np.zeros((2, 4), np.float32))


def test_inhibition_lets_only_the_largest_membrane_spike_and_learn_from_it() -> None:
    plain, inhibited = (snn.SLSTM(3, 5, threshold=0.05, inhibition=k, dtype="float64", seed=0) for k in (False, True))
    rng = np.random.default_rng(0)
    x, dspk = rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 4, 5))
    spk, _, mem = plain.forward(x)
    largest = mem == mem.max(axis=-1, keepdims=True)
    np.testing.assert_array_equal(inhibited.forward(x)[0], spk * largest)
    np.testing.assert_array_equal(inhibited.backward(dspk), plain.backward(dspk * largest))
    assert 0 < (spk * largest).sum() < spk.sum()


def test_what_a_run_leaves_is_there_after_it() -> None:
    layer = snn.SLSTM(3, 5, bias=False, seed=0)
    for name in ("syn", "mem"):
        with pytest.raises(RuntimeError, match=f"{name} needs a forward pass before it"):
            getattr(layer, name)
    _, syn, mem = layer.forward(np.ones((4, 2, 3), np.float32))
    np.testing.assert_array_equal(layer.syn, syn)
    np.testing.assert_array_equal(layer.mem, mem)
    assert repr(layer) == "SLSTM(3, 5, bias=False)"
