"""What is measured on a side: calls of kernels and of steps on the CPU and on the GPU, beside their floors there."""

import multiprocessing
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import clock
from ceilings import Ceilings
from entries import Entry

import snnumba as snn
from snnumba import backend
from snnumba.kernels import cpu

LONGEST = 4.0  # seconds: a size whose floor on the CPU says that it may take more is left out there
SHARE = 0.2  # of the floor that is guessed for it

Works = list[Any]  # of Entry and Step


def guarded(measure: Callable[[], Any]) -> Any:
    """What it gives, or the error it raised, so that the rest goes on."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def on_cpu(work: Any) -> clock.Call:
    """A call of it on the CPU."""
    if not isinstance(work, Entry):
        call: clock.Call = work.on("cpu")
        return call
    function, arguments = getattr(cpu, work.kernel), work.arguments(cpu).values()
    return lambda: function(*arguments)


def on_gpu(work: Any, precision: str = "fp32") -> clock.Call:
    """A call of it on the GPU."""
    import gpu

    if not isinstance(work, Entry):
        call: clock.Call = work.on("cuda", precision)
        return call
    kernels = backend.load("cuda", precision)
    function, arguments = getattr(kernels, work.kernel), gpu.on_device(work.arguments(kernels))
    return lambda: function(*arguments)


def too_long(work: Any, limits: Ceilings) -> str | None:
    """Why it is left out on the CPU; None: it is not."""
    floor = limits.floor(work)
    return f"its floor is {floor:.1f} s, so it may take more than {LONGEST:.0f} s" if floor > SHARE * LONGEST else None


def cpu_side(work: Any, limits: Ceilings, budget: float) -> dict[str, Any]:
    """Times on the CPU."""
    call, why = on_cpu(work), too_long(work, limits)
    if why is not None:
        return {"skipped": why}
    return work.measured(call, budget) if hasattr(work, "measured") else clock.measured(call, budget)


def gpu_side(work: Any, budget: float) -> dict[str, Any]:
    """Times on the GPU, launches, of what is launches alone its time as a graph, of products that with tf32 factors."""
    import gpu

    call = on_gpu(work)
    if hasattr(work, "measured"):
        found: dict[str, Any] = work.measured(call, budget)
        return found
    found = clock.measured(call, budget, gpu.timed) | {"launches": gpu.launches(call)}
    if work.launches_alone:
        found["graph"] = guarded(lambda: clock.measured(gpu.as_graph(call), budget, gpu.timed))
    if work.has_products:
        found["tf32"] = guarded(lambda: clock.measured(with_tf32(work), budget, gpu.timed))
    return found


def with_tf32(work: Any) -> clock.Call:
    """A call of it on the GPU with precision "tf32", as a graph where that is possible."""
    import gpu

    call = on_gpu(work, "tf32")
    return gpu.as_graph(call) if work.launches_alone else call


def add_floor(side: dict[str, Any], work: Any, limits: Ceilings) -> None:
    """To what was measured on a side, the floor there and its share in the median and in the least time."""
    side["floor"] = limits.floor(work)
    for found in (side, side.get("graph", {})):
        if "median" in found:
            found["share"], found["best share"] = (side["floor"] / found[key] for key in ("median", "least"))


def smallest(works: Works) -> list[int]:
    """Of those that need the same machine code, one each: the index of that which does least."""
    best: dict[str, int] = {}
    for k, work in enumerate(works):
        if work.name not in best or work.operations < works[best[work.name]].operations:
            best[work.name] = k
    return list(best.values())


def _call_once(task: tuple[Callable[[], Works], int]) -> None:
    """In a process of its own: call something once, so that its machine code is kept for this run and later ones."""
    make, k = task
    snn.set_num_threads(1)
    guarded(on_cpu(make()[k]))


def compile_all(make: Callable[[], Works], with_gpu: bool) -> None:
    """Compile what is to be measured: for the CPU in processes side by side, meanwhile here for the GPU."""
    works = make()
    if not works:
        raise SystemExit("nothing has that in its name")
    chosen = smallest(works)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cpu.available_threads(), len(chosen)), mp_context=context) as pool:
        if cpu.cache_folder is not None:
            pool.map(_call_once, [(make, k) for k in chosen])
        for k in chosen if with_gpu else []:
            guarded(lambda k=k: on_gpu(works[k])())


def duration(side: dict[str, Any] | None, key: str = "median") -> str:
    """A time for a table; or why there is none."""
    if side is None or key not in side:
        return "" if side is None else next((word for word in ("skipped", "error") if word in side), "")
    seconds = side[key]
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def share(side: dict[str, Any] | None, key: str = "share") -> str:
    """The share of the floor, for a table."""
    return f"{side[key]:.0%}" if side and key in side else ""


def ratio(side: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    """How many times as long the first takes as the other, for a table."""
    if side is None or other is None or "median" not in side or "median" not in other:
        return ""
    return f"{side['median'] / other['median']:.2f} x"
