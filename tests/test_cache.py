"""The machine code that is kept between runs: by processes at once, damaged, and where there is no room for it."""

import pytest
from processes import begun, python

pytestmark = pytest.mark.compiled

FORWARD = """
import sys
import numpy as np
from numba.core import event
import snnumba as snn
net = snn.Network(snn.Linear(4, 6), snn.RLeaky(beta=0.9, linear_features=6), num_steps=5, seed=0)
x = np.random.default_rng(0).random((8, 4), np.float32) * 3
print("ready", flush=True)
sys.stdin.readline()
with event.install_recorder("numba:compile") as compiled:
    spk, mem = net.forward(x)
print(mem.tobytes().hex())
print(len(compiled.buffer))
"""
SCALE = """
import sys
import time
import numpy as np
from numba.core import caching, event
from snnumba.datasets import Dataset
read = caching.IndexDataCacheFile._load_index
def read_slowly(self):  # so that what two processes do with a list that both have read comes to light
    found = read(self)
    time.sleep(1)
    return found
caching.IndexDataCacheFile._load_index = read_slowly
print("ready", flush=True)
sys.stdin.readline()
for dtype in sys.argv[1:]:
    data = Dataset(np.full((2, 2, 2), 51, np.uint8), [0, 1], dtype=dtype)
    with event.install_recorder("numba:compile") as compiled:
        x, _ = data.batch([1])
    print(x.dtype, (x == np.full_like(x, 51) / 255).all(), len(compiled.buffer))
"""


def at_once(*commands: tuple[str, ...], **environment: object) -> list[list[str]]:
    """What processes print that go on from "ready" together."""
    processes = [begun("-c", *command, **environment) for command in commands]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300) for process in processes]
    assert [err for _, err in said] == [""] * len(said)
    return [out.splitlines() for out, _ in said]


def test_two_processes_compile_into_one_cache_at_once_and_a_third_has_nothing_left_to_compile(tmp_path) -> None:
    one, other = at_once((FORWARD,), (FORWARD,), SNNUMBA_CACHE_DIR=tmp_path)
    assert int(one[1]) > 0 < int(other[1])
    ((bits, compiled),) = at_once((FORWARD,), SNNUMBA_CACHE_DIR=tmp_path)
    assert bits == one[0] == other[0]
    assert compiled == "0"


def test_two_processes_at_once_do_not_mix_up_the_code_for_two_types(tmp_path) -> None:
    at_once((SCALE, "float32"), (SCALE, "float64"), SNNUMBA_CACHE_DIR=tmp_path)
    (lines,) = at_once((SCALE, "float32", "float64"), SNNUMBA_CACHE_DIR=tmp_path)
    assert lines == ["float32 True 0", "float64 True 0"]


def test_code_that_was_damaged_is_compiled_again(tmp_path) -> None:
    def scale() -> str:
        return at_once((SCALE, "float32"), SNNUMBA_CACHE_DIR=tmp_path)[0][0]

    first = scale()
    for damaged in (lambda code: code[: len(code) // 2], lambda code: b"", lambda code: b"hello"):
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files
        for path in files:
            path.write_bytes(damaged(path.read_bytes()))
        assert scale() == first
    assert scale() == "float32 True 0" != first


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"


def test_a_full_disk_keeps_no_code_and_stops_nothing(tmp_path) -> None:
    pytest.importorskip("resource", reason="needs limits on the size of files")
    for _ in range(2):
        done = python("-c", FULL + SCALE, "float32", SNNUMBA_CACHE_DIR=tmp_path)
        assert done.stderr == ""
        assert done.stdout.splitlines()[1].startswith("float32 True ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
