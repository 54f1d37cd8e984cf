"""Sums over bits and products with matrices that no cache holds, with the same bits in pieces; transposition."""

import numba
import numpy as np
import pytest

import snnumba as snn
from snnumba.kernels import cpu
from snnumba.kernels.cpu import bits, dense


def spikes(rng: np.random.Generator, rows: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (1, rows, inputs) of which a sixth is not zero, and where they are not, as bits."""
    x = rng.random((1, rows, inputs)) * (rng.random((1, rows, inputs)) < 1 / 6)
    active = np.zeros((1, rows, cpu.num_words(inputs)), np.uint64)
    cpu.find_active(x, active)
    return x, active


def test_bits_of_64_words_are_turned() -> None:
    words = np.random.default_rng(3).integers(0, 1 << 64, 64, np.uint64)
    square = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(64, 64)
    turn(words)
    np.testing.assert_array_equal(np.unpackbits(words.view(np.uint8), bitorder="little").reshape(64, 64), square.T)


@numba.njit
def turn(words: np.ndarray) -> None:
    bits.turn(words)


@pytest.mark.compiled
@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("outputs", [10, 75, 150])
def test_rows_that_fill_no_vectors_are_summed_to_the_bit_as_one_alone(outputs: int, floats: bool) -> None:
    rng = np.random.default_rng(4)
    rows, inputs = bits.ENOUGH + 5, 130  # in groups of four rows one is left, and two of the last word's inputs
    weight = rng.standard_normal((inputs, outputs)).astype(np.float32)
    bias, d = np.full(outputs, -0.0, np.float32), rng.standard_normal((1, rows, outputs)).astype(np.float32)
    x, active = spikes(rng, rows, inputs)
    x[0, 3], active[0, 3] = 0, 0  # a sample without spikes keeps the bias, its sign too
    x, given = x.astype(np.float32), x.astype(np.float32) if floats else None
    out = np.empty((1, rows, outputs), np.float32)
    cpu.linear_forward(given, active, weight, bias, None, out)
    np.testing.assert_array_equal(np.signbit(out[0, 3]), True)
    expected = np.tile(bias, (rows, 1))
    dweight, sums = np.zeros_like(weight), np.empty_like(weight)
    for r in range(rows):
        for i in np.flatnonzero(x[0, r]):
            expected[r] = fused(x[0, r, i] if floats else 1, weight[i], expected[r])
    for r in range(rows - 1, -1, -1):
        for i in np.flatnonzero(x[0, r]):
            dweight[i] = fused(x[0, r, i] if floats else 1, d[0, r], dweight[i])
    np.testing.assert_array_equal(out[0], expected)
    cpu.linear_backward(given, active, d, sums[None], bias[None].copy(), False)
    np.testing.assert_array_equal(sums, dweight)


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("outputs", [75, 7])
@pytest.mark.parametrize(("batch", "parts", "cuts"), [(128, 2, [64]), (150, 2, [80]), (40, 3, [16, 32])])
def test_parts_of_the_samples_are_summed_apart(
    batch: int, parts: int, cuts: list[int], outputs: int, floats: bool
) -> None:
    rng = np.random.default_rng(6)
    steps, inputs = 3, 70
    made = [spikes(rng, batch, inputs) for _ in range(steps)]
    x, active = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
    x, d = x.astype(np.float64), rng.standard_normal((steps, batch, outputs))
    dweight, dbias = np.empty((parts, inputs, outputs)), np.empty((parts, outputs))
    for times, add in enumerate((False, True), 1):
        cpu.linear_backward(x if floats else None, active, d, dweight, dbias, add)
        each = zip(np.split(x, cuts, axis=1), np.split(d, cuts, axis=1), strict=True)
        for p, (of_x, of_d) in enumerate(each):
            chosen = of_x if floats else of_x != 0
            np.testing.assert_allclose(
                dweight[p], times * np.einsum("tbi,tbo->io", chosen, of_d), rtol=1e-12, atol=1e-12
            )
            np.testing.assert_allclose(dbias[p], times * of_d.sum(axis=(0, 1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(1, 3, 1), (6, 70, 8), (21, 256, 5), (21, 257, 8)])
def test_narrow_weights_have_the_products_of_others(batch: int, inputs: int, outputs: int, dtype: str) -> None:
    rng = np.random.default_rng(8)  # multiples of 1/64: few enough bits for sums to be exact
    x, active = spikes(rng, 2 * batch, inputs)
    x, active = x.reshape(2, batch, inputs) != 0, active.reshape(2, batch, -1)
    weight, bias, d = (rng.integers(-64, 64, s) / 64 for s in ((inputs, outputs), outputs, (2, batch, outputs)))
    out, dweight, dbias = np.empty(d.shape, dtype), np.empty((1, inputs, outputs), dtype), np.empty((1, outputs), dtype)
    cpu.linear_forward(None, active, weight.astype(dtype), bias.astype(dtype), None, out)
    np.testing.assert_array_equal(out, x @ weight + bias)
    for times, add in enumerate((False, True), 1):
        cpu.linear_backward(None, active, d.astype(dtype), dweight, dbias, add)
        np.testing.assert_array_equal(dweight[0], times * np.einsum("tbi,tbo->io", x, d))
        np.testing.assert_array_equal(dbias[0], times * d.sum(axis=(0, 1)))


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize(("rows", "outputs"), [(5, 150), (21, 75), (21, 128), (300, 16)])
def test_parts_of_the_inputs_are_added(rows: int, outputs: int, floats: bool) -> None:
    rng = np.random.default_rng(7)
    inputs, half = 150, 64  # whole words
    weight, bias = rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs)
    x, active = spikes(rng, rows, inputs)
    first, second = x * (np.arange(inputs) < half), x * (np.arange(inputs) >= half)
    expected = []
    for some, start in ((first, bias), (second, np.zeros(outputs))):
        cpu.find_active(some, marks := np.empty_like(active))
        cpu.linear_forward(some if floats else None, marks, weight, start, None, made := np.empty((1, rows, outputs)))
        expected.append(made)
    out, parts, before = np.empty((1, rows, outputs)), np.empty((2, 1, rows, outputs)), snn.get_num_threads()
    try:
        for threads in (1, 2, 3):
            snn.set_num_threads(threads)
            cpu.linear_forward(x if floats else None, active, weight, bias, parts, out)
            np.testing.assert_array_equal(out, expected[0] + expected[1])
    finally:
        snn.set_num_threads(before)


def test_inputs_of_large_weights_are_cut_in_halves() -> None:
    shapes = (784, 10), (784, 83), (784, 84), (128, 1024), (127, 1024)
    assert [cpu.num_input_parts(*shape) for shape in shapes] == [1, 1, 2, 2, 1]


def test_samples_that_fill_words_are_cut_in_halves() -> None:
    assert [cpu.num_parts(batch) for batch in (1, 64, 127, 128, 150, 1024)] == [1, 1, 1, 2, 1, 2]


def fused(x: float, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x y + z, rounded once: the product of two float32 is exact in float64, whose sum is rounded again rarely."""
    return (np.float64(x) * y.astype(np.float64) + z.astype(np.float64)).astype(np.float32)


@pytest.mark.parametrize("floats", [True, False])
def test_many_rows_add_what_each_does_alone(floats: bool) -> None:
    rng = np.random.default_rng(0)
    rows, inputs, outputs = bits.ENOUGH + 5, 300, 290
    weight, bias = rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs)
    assert weight.size >= bits.FAR
    x, active = spikes(rng, rows, inputs)
    together, alone = np.empty((2, 1, rows, outputs))
    given = x if floats else None
    cpu.linear_forward(given, active, weight, bias, None, together)
    for r in range(rows):
        one = slice(r, r + 1)
        cpu.linear_forward(x[:, one] if floats else None, active[:, one], weight, bias, None, alone[:, one])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together[0], (x[0] if floats else x[0] != 0) @ weight + bias, rtol=1e-10, atol=1e-10)


def test_a_product_with_a_matrix_that_no_cache_holds_is_that_of_its_parts() -> None:
    rng = np.random.default_rng(1)
    terms, outputs = 1030, 1030
    b, a = rng.standard_normal((terms, outputs)), rng.standard_normal((1, 19, terms))
    assert b.size >= dense.UNCACHED
    whole = np.empty((1, 19, outputs))
    cpu.linear_backward_input(a, b, whole)
    for c in range(0, outputs, 512):
        part = b[:, c : c + 512].copy()
        expected = np.empty((1, 19, part.shape[1]))
        cpu.linear_backward_input(a, part, expected)
        np.testing.assert_array_equal(whole[:, :, c : c + 512], expected)
    np.testing.assert_allclose(whole[0], a[0] @ b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (10, 16), (16, 10), (33, 47), (48, 64)])
def test_a_matrix_is_transposed_in_squares_and_what_is_left_beside_them(shape: tuple[int, int], dtype: str) -> None:
    a = np.random.default_rng(2).random(shape).astype(dtype)
    out = np.full(shape[::-1], np.nan, dtype)
    cpu.transpose(a, out)
    np.testing.assert_array_equal(out, a.T)
