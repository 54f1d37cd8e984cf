"""Every CUDA kernel beside the CPU kernel of its name: on a GPU, or in numba's simulator, which needs none.

In the simulator, threads of a block run one at a time, in an order drawn anew after each barrier, and shared memory
begins full of NaN: a barrier that is missing, or memory read before it is written, shows in the numbers.
"""

import itertools
import sys
import threading
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pytest
from targets import SIMULATED, gpu_is_missing

if gpu_is_missing() and not SIMULATED:
    pytest.skip("needs a CUDA device, or NUMBA_ENABLE_CUDASIM=1", allow_module_level=True)

if SIMULATED:
    from numba.cuda.simulator import kernel as simulator
    from numba.cuda.simulator.kernelapi import Dim3

from cuda_cases import EVENTS, SPREAD, STRIDING, TILED, Case, all_cases, packed, spikes
from reference import relative_error

from snnumba.kernels import cpu, cuda
from snnumba.kernels.cuda import dense, lif, tf32

# float32 sums of up to 70 terms in another order; tf32 keeps 10 bits of a number
TOLERANCE = {"fp32": 1e-5, "tf32": 1e-3}
ORDER = np.random.default_rng(0)


class Thread(threading.Thread):
    """A thread of a block, which runs from barrier to barrier, or as far as it waits, when it is told to."""

    def __init__(self, function: Any, args: tuple[Any, ...], block: tuple[int, ...], thread: tuple[int, ...]) -> None:
        super().__init__(daemon=True)
        self.function, self.args = function, args
        self.blockIdx, self.threadIdx = Dim3(*block), Dim3(*thread)
        self.at = "start"  # or "barrier", "wait", "end"
        self.error: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        try:
            self.function(*self.args)
        except BaseException as error:
            self.error = error
        self.at = "end"
        self._back.release()

    def advance(self) -> bool:
        """Run as far as it goes; whether that is further than before."""
        before = self.at
        if before == "start":
            self.start()
        else:
            self._go.release()
        self._back.acquire()
        if self.error is not None:
            raise self.error
        return (before, self.at) != ("wait", "wait")

    def _stop(self, at: str) -> None:
        self.at = at
        self._back.release()
        self._go.acquire()

    def syncthreads(self) -> None:
        self._stop("barrier")

    def give_way(self) -> None:
        """Wait for what a thread of another block is to do."""
        self._stop("wait")


class Shared:
    """Shared memory of a block, full of NaN; arrays are told apart by the line that asks for them."""

    def __init__(self, dynamic: int) -> None:
        self._dynamic = np.full(dynamic, 255, np.uint8)
        self._dynshared_size = dynamic
        self._arrays: dict[int, np.ndarray] = {}

    def array(self, shape: Any, dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        if shape == 0:
            return self._dynamic[: self._dynamic.size // dtype.itemsize * dtype.itemsize].view(dtype)
        line = sys._getframe(1).f_lineno
        if line not in self._arrays:
            self._arrays[line] = np.full(np.prod(shape) * dtype.itemsize, 255, np.uint8).view(dtype).reshape(shape)
        return self._arrays[line]


class Block:
    """In place of the simulator's way of running a block, which leaves the order of the threads to chance.

    A block that waits for others is left until there are some: those of a grid all end with the last.
    """

    together: ClassVar[list["Block"]] = []  # blocks that wait for others

    def __init__(self, function: Any, grid: tuple[int, ...], shape: tuple[int, ...], debug: bool) -> None:
        self.function, self.grid, self.shape = function, grid, shape

    def run(self, block: tuple[int, ...], *args: Any) -> None:
        self.shared = Shared(simulator._get_kernel_context().shared._dynshared_size)
        self.threads = [Thread(self.function, args, block, at) for at in np.ndindex(*self.shape)]
        self.together.append(self)
        last = all(at + 1 == size for at, size in zip(block, self.grid, strict=True))
        try:
            while any([x.advance() for x in ORDER.permutation(np.array(self.together, object))]):
                self.together[:] = [x for x in self.together if x.threads[0].at != "end"]
            assert not (last and self.together), "blocks that wait for each other for ever"
        except BaseException:
            self.together.clear()
            raise

    def advance(self) -> bool:
        """Run the threads as far as they go; whether one got further than before."""
        simulator._get_kernel_context()._shared = self.shared
        moved = False
        while True:
            able = [k for k in ORDER.permutation(len(self.threads)) if self.threads[k].at in ("start", "wait")]
            if not able:
                assert len({x.at for x in self.threads}) == 1, "a barrier that not all threads came to"
                if self.threads[0].at == "end":
                    return moved
                able = list(ORDER.permutation(len(self.threads)))
            if not any([self.threads[k].advance() for k in able]):
                return moved
            moved = True


if SIMULATED:
    simulator.BlockManager = Block


def on_device(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with their arrays on the device; arrays that are the same stay the same."""
    moved = {id(x): cuda.from_host(x) for x in arguments.values() if isinstance(x, np.ndarray)}
    return {name: moved.get(id(x), x) for name, x in arguments.items()}


@pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning")  # random bits wrap round
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_kernel_computes_what_the_cpu_kernel_does(case: Case) -> None:
    expected, got = case.arguments(cpu), case.arguments(cuda)
    arguments = on_device(got)
    returned = [case.run(kernels, given) for kernels, given in ((cpu, expected), (cuda, arguments))]
    for name in case.results(got):
        got[name] = cuda.to_host(arguments[name])
    assert returned[0] is None or returned[0] == pytest.approx(returned[1], rel=1e-12)  # float64, in another order
    for (name, x), y in zip(case.results(expected).items(), case.results(got).values(), strict=True):
        if x.dtype.kind == "f" and np.isfinite(x).all():
            assert relative_error(y, x) < TOLERANCE[case.precision], name
        else:
            np.testing.assert_array_equal(y, x, err_msg=name)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 239), ("float64", 168)])
def test_a_linear_feedback_stays_in_shared_memory_as_long_as_it_fits(dtype: str, most: int) -> None:
    for neurons, batch in itertools.product(range(1, most + 2), (1, 128, 4096)):
        mem, weight = np.empty((1, batch, neurons), dtype), np.empty((neurons, neurons), dtype)
        shape = lif.Shape(weight, False, mem)
        assert shape.possible == (neurons <= most)
        assert not shape.possible or shape.shared <= 227 * 1024


@pytest.mark.parametrize("form", [{}, {"lif.SHARED_OUT": 0}, EVENTS, SPREAD, TILED, STRIDING], ids=str)
def test_a_run_cut_in_two_has_the_bits_of_one(form: dict[str, int]) -> None:
    rng, steps, batch, n = np.random.default_rng(5), 4, 3, 37
    draw = lambda *shape: rng.normal(0, 0.5, shape).astype(np.float32)  # noqa: E731
    current, weight, bias, mem0 = 0.7 + draw(steps, batch, n), draw(n, n), draw(n), draw(batch, n)
    spk0, beta, threshold = spikes(rng, (batch, n)), np.full(n, 0.9, np.float32), np.ones(n, np.float32)

    def run(begin: int, end: int, spk0: np.ndarray, mem0: np.ndarray) -> np.ndarray:
        mem, spk = np.empty((end - begin, batch, n), np.float32), np.empty((end - begin + 1, batch, 1), np.uint64)
        given = {"current": current[begin:end].copy(), "weight": weight, "bias": bias, "window": None, "room": None}
        given |= {"beta": beta, "threshold": threshold, "levels": None, "winner": None, "spk0": spk0, "mem0": mem0}
        given |= {"reset": 0, "delay": True, "mem": mem, "potential": mem, "spk": spk}
        made = on_device(given)
        Case("lif_forward", "", {}, sizes=form).run(cuda, made)
        return cuda.to_host(made["mem"])

    whole, first = run(0, steps, spk0, mem0), run(0, 2, spk0, mem0)
    second = run(2, steps, (first[1] > 1).astype(np.float32), first[1])
    np.testing.assert_array_equal(np.concatenate((first, second)), whole)


def test_blocks_take_several_samples_once_the_device_is_full() -> None:
    rows = [lif.Shape(None, False, np.empty((1, batch, 10), np.float32)).block[1] for batch in (1, 128, 129, 4096)]
    assert rows == [1, 1, 2, 25]


def test_tf32_products_round_their_factors_to_10_bits_and_sums_not() -> None:
    x, weight = (
        np.random.default_rng(k).normal(size=shape).astype(np.float32) for k, shape in ((1, (1, 9, 20)), (2, (20, 7)))
    )
    bits, bias, got = np.zeros((1, 9, 1), np.uint64), np.zeros(7, np.float32), np.empty((1, 9, 7), np.float32)
    made = on_device({"x": x, "bits": bits, "weight": weight, "bias": bias, "parts": None, "got": got})
    with patch.object(dense, "MANY", 0), patch.object(dense, "MOSTLY", 10**9):
        tf32.linear_forward(*made.values())
    x, weight = (np.ldexp(np.round(np.ldexp(m, 11)), e - 11) for m, e in map(np.frexp, (x, weight)))
    assert relative_error(cuda.to_host(made["got"])[0], x[0] @ weight) < 1e-6


def test_weight_gradients_of_spikes_are_sums_of_whole_floats_on_tensor_cores_too() -> None:
    rng = np.random.default_rng(3)
    events, d = spikes(rng, (1, 21, 70)), rng.normal(size=(1, 21, 9)).astype(np.float32)
    d[0, 4, 7] = np.uint32(0x7FFFFFFF).view(np.float32)  # what a GPU makes of 0/0
    dweight, dbias = np.empty((1, 70, 9), np.float32), np.empty((1, 9), np.float32)
    made = on_device({"x": None, "active": packed(events), "d": d, "dweight": dweight, "dbias": dbias, "add": False})
    with patch.object(dense, "MANY", 0), patch.object(dense, "MOSTLY", 10**9):
        cuda.linear_backward(*made.values())
    got, size = cuda.to_host(made["dweight"])[0], events[0].T @ abs(d[0])
    right = abs(got - events[0].T.astype(np.float64) @ d[0]) <= 2.0**-21 * size
    assert (right | (np.arange(9) == 7)).all()
    assert np.isnan(got[:, 7]).all()
