"""Images that stay in their file: what batches hold, their order, the bound of memory, and files that go bad."""

import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from processes import python

import snnumba as snn
from snnumba import checkpoint, cli, hdf5, optim, steps, streaming
from snnumba import functional as SF
from snnumba.datasets import Dataset, Loader, fingerprint, load, open_data, save
from snnumba.streaming import StreamedDataset

rng = np.random.default_rng(0)
N, MEMORY = 700, 40_000  # images, and bytes that are too few for them
GREY = rng.integers(0, 256, (N, 12, 10), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (N, 6, 7, 3), dtype=np.uint8)
FLOATS = rng.normal(size=(N, 6, 5))
LABELS = np.arange(N) % 7


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks and buffers in proportion to these files."""
    for name, value in {"SPARE": 0, "WORK": 0, "PER_CHUNK": 0, "SHARE": 16, "PIECE": 500}.items():
        monkeypatch.setattr(streaming, name, value)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "set.h5"
    save(path, train=(GREY, LABELS), test=(GREY[:90], LABELS[:90]), name="set")
    return path


def written(path, images, **options):
    """A file of another origin, with this train split."""
    with h5py.File(path, "w") as file:
        file.create_dataset("train/images", data=images, **options)
        file["train/labels"] = LABELS[: len(images)]
    return path


def assert_batches_of(data, expected, loader):
    """That an epoch of the loader has the batches that `expected`, in memory, has at the same indices."""
    taken = list(zip(loader, loader.indices(0), strict=True))
    for (x, y), indices in taken:
        want_x, want_y = expected.batch(indices)
        np.testing.assert_array_equal(x, want_x, strict=True)
        np.testing.assert_array_equal(y, want_y, strict=True)
    assert sorted(np.concatenate([indices for _, indices in taken])) == list(range(len(data)))


def reading():
    """Threads that read ahead."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("snnumba-read")]


def is_open(path):
    """Whether this process has the file open."""
    names = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return str(path) in [os.readlink(name) for name in names if os.path.islink(name)]


# Batches


LAYOUTS = {
    "contiguous": {},
    "chunks of whole images": {"chunks": (8, 12, 10)},
    "chunks of parts of images": {"chunks": (7, 5, 3)},
    "one image a chunk": {"chunks": (1, 12, 10)},
    "gzip": {"chunks": (9, 12, 10), "compression": "gzip"},
    "lzf": {"chunks": (9, 12, 10), "compression": "lzf"},
    "shuffle and gzip": {"chunks": (11, 4, 10), "compression": "gzip", "shuffle": True},
    "fletcher32": {"chunks": (13, 12, 10), "fletcher32": True},
    "all of them": {"chunks": (13, 12, 7), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "room for more": {"chunks": (9, 12, 10), "maxshape": (None, 12, 10)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_streamed_batches_are_those_from_memory_whatever_the_layout(tmp_path, layout, shuffle):
    data = load(written(tmp_path / "own.h5", GREY, **LAYOUTS[layout]), memory=MEMORY)
    assert isinstance(data, StreamedDataset)
    assert 1 < data._count < N / data.block / 3
    chunk = LAYOUTS[layout].get("chunks", (1,))[0]
    assert data.block % chunk == 0
    assert_batches_of(data, Dataset(GREY, LABELS), Loader(data, 32, shuffle=shuffle, drop_last=False))


TRANSFORMS = {
    "colour": (COLOUR, {"flatten": False}),
    "normal": (COLOUR, {"mean": 0.4, "std": 0.2, "scale": False, "dtype": "float64"}),
    "grey": (COLOUR, {"grayscale": True, "resize": 5}),
    "large": (COLOUR, {"resize": (11, 13)}),
    "floats": (FLOATS, {"mean": 0.5}),
    "float64": (FLOATS, {"resize": (3, 4), "dtype": "float64"}),
    "float16": (FLOATS.astype(np.float16), {}),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_streamed_images_are_transformed_as_those_in_memory(tmp_path, case):
    images, transforms = TRANSFORMS[case]
    path = written(tmp_path / "own.h5", images, chunks=(5, *images.shape[1:]))
    data, expected = load(path, memory=MEMORY, **transforms), Dataset(images, LABELS, **transforms)
    assert isinstance(data, StreamedDataset)
    assert (data.sample_shape, data.image_shape) == (expected.sample_shape, expected.images.shape[1:])
    assert_batches_of(data, expected, Loader(data, 32, drop_last=False))


@pytest.mark.parametrize("size", [1, 600])
def test_a_batch_may_be_smaller_or_larger_than_a_buffer(path, size):
    data = load(path, memory=MEMORY)
    assert 1 < data._count * data.block < 600
    assert_batches_of(data, Dataset(GREY, LABELS), Loader(data, size, drop_last=False))


def test_samples_are_had_by_index_too(path):
    data, expected = load(path, memory=MEMORY), Dataset(GREY, LABELS)
    for index in (slice(3, 9), LABELS == 2, [N - 1, 0, 5, 5], slice(None), slice(0)):
        for got, want in zip(data[index], expected[index], strict=True):
            np.testing.assert_array_equal(got, want, strict=True)
    assert data[-1][1] == LABELS[-1]
    with pytest.raises(IndexError, match=f"from 0 to {N - 1}; got {N} to {N}"):
        data.batch([N])


def test_a_streamed_set_has_the_fingerprint_of_the_same_in_memory(path):
    for streamed, whole in zip(open_data(str(path), memory=MEMORY), open_data(str(path)), strict=True):
        assert type(whole) is Dataset
        assert isinstance(streamed, StreamedDataset)
        assert fingerprint(streamed) == fingerprint(whole)


def test_images_of_a_streamed_set_are_not_to_be_had_whole(path):
    data = load(path, memory=MEMORY)
    with pytest.raises(TypeError, match=r"set is streamed from .*set\.h5: its images are not in memory"):
        data.images  # noqa: B018
    assert not steps.DeviceSteps.possible(SimpleNamespace(device="cuda"), data, None, {"accuracy": None})


def test_what_fits_is_not_streamed(path):
    needed = N * (120 + streaming.PER_IMAGE)
    assert type(load(path, memory=needed)) is Dataset
    assert type(load(path, memory=needed - 1)) is StreamedDataset
    assert type(load(path, memory=needed, dtype="float64")) is Dataset
    assert type(load(path, memory=needed, resize=6)) is StreamedDataset
    assert type(open_data(str(path), memory=needed)[0]) is StreamedDataset


# Order


def test_order_depends_on_seed_and_epoch_alone(path):
    one, two = (Loader(load(path, memory=MEMORY), size, seed=3) for size in (8, 50))
    list(one)
    assert np.array_equal(one.order(4), two.order(4))
    assert not np.array_equal(one.order(4), one.order(5))
    assert not np.array_equal(one.order(4), Loader(one.dataset, 8, seed=4).order(4))


def test_neighbours_in_the_file_come_apart_and_those_in_a_buffer_come_from_all_over_it(path):
    data = load(path, memory=MEMORY)
    order = Loader(data, 8).order(0)
    assert (np.diff(order) == 1).mean() < 0.05
    buffer = order[: data._count * data.block]
    assert np.ptp(buffer) > N / 2


def test_an_epoch_reads_each_block_once(path, monkeypatch):
    data, reads, part = load(path, memory=MEMORY), [], hdf5.part
    monkeypatch.setattr(hdf5, "part", lambda stored, where: reads.append(where.start) or part(stored, where))
    for _ in Loader(data, 32):
        pass
    assert sorted(reads) == list(range(0, N, data.block))


@pytest.mark.parametrize("slow", ["reading", "computing"])
def test_batches_do_not_depend_on_who_waits_for_whom(path, monkeypatch, slow):
    data, part = load(path, memory=MEMORY), hdf5.part

    def wait(stored, where):
        time.sleep(0.003)
        return part(stored, where)

    if slow == "reading":
        monkeypatch.setattr(hdf5, "part", wait)
    loader, expected = Loader(data, 32), Dataset(GREY, LABELS)
    for (x, y), indices in zip(loader, loader.indices(0), strict=True):
        if slow == "computing":
            time.sleep(0.003)
        assert np.array_equal(x, expected.batch(indices)[0])
        assert y.tolist() == LABELS[indices].tolist()


def test_the_next_buffer_is_read_while_one_is_in_use(path, monkeypatch):
    data, reads, part = load(path, memory=MEMORY), [], hdf5.part

    def seen(stored, where):
        reads.append(threading.current_thread())
        return part(stored, where)

    monkeypatch.setattr(hdf5, "part", seen)
    batches = iter(Loader(data, 1))
    next(batches)
    while len(reads) < 2 * data._count:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(reads) == 2 * data._count  # and no more, with a buffer in use
    assert {*reads} == {*reading()}
    batches.close()


# Training


def make_net():
    return snn.Network(
        snn.Linear(120, 8),
        snn.RLeaky(beta=0.9, linear_features=8, threshold=0.3),
        snn.Dropout(0.3),
        snn.Linear(8, 7),
        snn.RLeaky(beta=0.8, linear_features=7, threshold=0.3),
        num_steps=4,
        seed=4,
    )


class Stopped(Exception):
    """The end of a process, in place of it."""


@pytest.mark.compiled
@pytest.mark.parametrize("when", [1, 10, 21, 29])
def test_a_streamed_run_stopped_amid_an_epoch_goes_on_to_the_same_bits(path, tmp_path, when):
    def fitted(net, optimizer, **options):
        train, test = open_data(str(path), memory=MEMORY)
        return snn.fit(net, train, SF.mse_count_loss(), optimizer, 2, test, batch_size=45, seed=2, **options)

    net = make_net()
    optimizer = optim.Adam(net, lr=0.01)
    history = fitted(net, optimizer)
    assert len(history.loss) == 30

    stopped = make_net()
    made = optim.Adam(stopped, lr=0.01)

    def stop(history):
        if made.steps == when:
            checkpoint.save(tmp_path / "run.h5", stopped, made, history, {})
            raise Stopped

    with pytest.raises(Stopped):
        fitted(stopped, made, on_step=stop)
    assert not reading()
    assert not is_open(path)
    run = checkpoint.load(tmp_path / "run.h5")
    fitted(run.net, run.optimizer, history=run.history)
    np.testing.assert_array_equal(run.net.vector, net.vector, strict=True)
    np.testing.assert_array_equal(run.history.loss, history.loss, strict=True)
    assert run.history.validation_loss == history.validation_loss
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(run.optimizer.state_dict()[name], x, strict=True, err_msg=name)


def test_a_streamed_set_is_evaluated_to_the_same_numbers(path):
    streamed, whole = (load(path, memory=memory) for memory in (MEMORY, None))
    loss_fn = SF.mse_count_loss()
    assert snn.evaluate(make_net(), streamed, loss_fn, 32) == snn.evaluate(make_net(), whole, loss_fn, 32)


def test_the_command_line_streams_what_is_larger_than_it_is_to_take(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = rng.integers(0, 256, (9000, 12, 12), dtype=np.uint8)
    save("large.h5", train=(images, np.arange(9000) % 3), test=(images[:500], np.arange(500) % 3), name="large")
    options = ["--epochs", "1", "--hidden", "4", "--num-steps", "2"]
    assert cli.main(["train", "--data", "large.h5", "--memory", "1", *options]) == 0
    out = capsys.readouterr().out
    text = rf"^ {{11}}streamed from {tmp_path}/large\.h5 in blocks of \d+ images, at most (0\.9|1\.0) MB of memory$"
    assert re.search(text, out, re.MULTILINE)
    assert checkpoint.load("run.h5").settings["memory"] == 1
    told = []
    for more in [], ["--memory", "1"]:
        assert cli.main(["evaluate", "run.h5", *more]) == 0
        out = capsys.readouterr().out
        assert ("streamed from" in out) == bool(more)
        told.append(re.findall("^(?:accuracy|loss) .*", out, re.MULTILINE))
    assert len(told[0]) == 2
    assert told[0] == told[1]
    for arguments, message in (
        (["train", "--resume", "run.h5", "--memory", "2"], "--memory is the run's own and cannot be given with"),
        (["train", "--task", "spike-time", "--memory", "2"], "--memory is of --task classification"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err


# Files that go bad


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path):
    with path.open("rb+") as file:
        file.write(file.read(1))


def removed(path):
    path.unlink()
    path.write_bytes(b"something else")


BAD = {  # what is done to the file during an epoch, and what is said then or in the next
    "cut short": (cut, "the file was changed while it was read"),
    "written to": (overwritten, "the file was changed while it was read"),
    "replaced": (removed, "the file was changed, or replaced, since it was first opened"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_a_file_that_goes_bad_while_it_is_read_is_told_of_in_a_line_and_nothing_is_left(tmp_path, case, layout):
    change, message = BAD[case]
    path = written(tmp_path / "own.h5", GREY, **LAYOUTS[layout])
    data = load(path, memory=MEMORY)

    def stepped(history):
        if len(history.begun.losses) == 1:
            change(path)

    net = make_net()
    with pytest.raises(ValueError, match=rf"own\.h5, /train/images: {message}") as error:
        snn.fit(net, data, SF.mse_count_loss(), optim.Adam(net), 2, batch_size=8, on_step=stepped)
    assert "\n" not in str(error.value)
    assert not reading()
    assert not is_open(path)


def flipped(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def test_a_chunk_that_is_damaged_is_told_of_when_it_is_read(tmp_path):
    path = written(tmp_path / "own.h5", GREY, **LAYOUTS["fletcher32"])
    flipped(path, path.read_bytes().index(GREY[500].tobytes()))
    loader = Loader(load(path, memory=MEMORY), 8)
    with pytest.raises(ValueError, match=r"own\.h5, /train/images: the file is damaged: .*filter"):
        list(loader)
    assert not reading()
    assert not is_open(path)


@pytest.mark.parametrize("sealed", [True, False])
def test_the_checksum_of_a_streamed_file_is_checked(path, sealed):
    flipped(path, path.read_bytes().index(GREY[500].tobytes()))
    message = "damaged, or changed since it was written: sha256 is"
    if not sealed:
        with path.open("rb+") as file:
            file.write(bytes(hdf5.BLOCK))
        message = "/train/images is damaged: sha256 is .*, the file says"
    with pytest.raises(ValueError, match=rf"set\.h5, train: {message}"):
        load(path, memory=MEMORY)


def test_a_file_that_is_gone_is_named(path):
    loader = Loader(load(path, memory=MEMORY), 8)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"set\.h5"):
        next(iter(loader))


WRITER = """
import os, sys, h5py
file = h5py.File(sys.argv[1], "r+", libver="latest")
file.flush()
if sys.argv[2] == "killed":
    os._exit(0)
print("open", flush=True)
input()
"""


def test_a_file_that_is_open_to_write_is_refused_at_each_epoch(tmp_path):
    path = written(tmp_path / "own.h5", GREY)
    loader = Loader(load(path, memory=MEMORY), 8)
    command = [sys.executable, "-c", WRITER, path, "alive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        with pytest.raises(ValueError, match=r"own\.h5, train: the file is open to write"):
            load(path, memory=MEMORY)
        with pytest.raises(ValueError, match=r"own\.h5, /train/images: the file (is open to write|was changed)"):
            next(iter(loader))
        writer.communicate(b"\n")


def test_a_file_whose_writer_was_killed_is_refused(tmp_path):
    path = tmp_path / "own.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["train/images"], file["train/labels"] = GREY, LABELS
    subprocess.run([sys.executable, "-c", WRITER, path, "killed"], check=True)
    with pytest.raises(ValueError, match=r"own\.h5, train: the file says that it is open to write; .* `h5clear -s`"):
        load(path)


def test_a_number_that_is_not_finite_is_told_of_with_its_place(tmp_path):
    floats = FLOATS.copy()
    floats[333, 4, 2] = np.nan
    loader = Loader(load(written(tmp_path / "own.h5", floats), memory=MEMORY), 8)
    with pytest.raises(ValueError, match=r"own\.h5, /train/images: images\[333, 4, 2\] must be finite; got nan"):
        list(loader)


@pytest.mark.parametrize(
    ("memory", "options", "error", "message"),
    [
        (5000, {}, ValueError, r"train: to stream 700 images in chunks of 1 takes at least 0\.0 MB of memory, and may"),
        (
            40_000,
            {"chunks": (400, 12, 10)},
            ValueError,
            r"to stream 700 images in chunks of 400 takes at least 0\.3 MB",
        ),
        (0, {}, ValueError, "memory must be at least 1; got 0"),
        ("1 GB", {}, TypeError, "memory must be a whole number; got '1 GB'"),
    ],
)
def test_memory_that_is_too_little_is_told_of_before_anything_is_read(tmp_path, memory, options, error, message):
    with pytest.raises(error, match=message):
        load(written(tmp_path / "own.h5", GREY, **options), memory=memory)


# Threads and memory


def test_the_thread_ends_and_the_file_is_closed_where_a_loop_ends_early(path):
    loader = Loader(load(path, memory=MEMORY), 8)
    for _ in loader:
        break
    assert not reading()

    def fail():
        for _ in loader:
            assert reading()
            assert is_open(path)
            raise Stopped

    with pytest.raises(Stopped):
        fail()
    assert not reading()
    assert not is_open(path)


SCRIPT = """
import os, sys
import numpy as np
from snnumba import datasets, streaming
streaming.SPARE = streaming.WORK = 0
data = datasets.load(sys.argv[1], memory=40_000)
loader = datasets.Loader(data, 8)
kept = iter(loader)
next(kept)
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
assert sum(1 for _ in loader) == len(loader)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_ends_amid_an_epoch_and_a_child_begins_its_own(path):
    done = python("-c", SCRIPT, path)
    assert done.returncode == 0, done.stderr


MEASURED = """
import ctypes, re, sys
from pathlib import Path
import snnumba as snn
from snnumba import datasets, optim, streaming, functional as SF

def memory(kind):
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def taken(path, bound):
    "Bytes that training and its tests take more at their peak than there were before."
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak, VmHWM, to what there is
    before = memory("VmRSS")
    train, test = datasets.open_data(path, memory=bound)
    assert isinstance(train, streaming.StreamedDataset) == (bound is not None)
    net = snn.Network(snn.Linear(784, 8), snn.RLeaky(beta=0.9, linear_features=8), num_steps=2, seed=0)
    snn.fit(net, train, SF.mse_count_loss(), optim.Adam(net), 2, test, batch_size=500, progress=False)
    return memory("VmHWM") - before

taken("few.h5", None)  # compiles
print(taken("few.h5", None), taken("many.h5", int(sys.argv[1])), taken("many.h5", None))
"""


@pytest.mark.compiled
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs /proc of Linux")
@pytest.mark.parametrize("options", [{}, {"chunks": (150, 28, 28), "compression": "gzip", "compression_opts": 1}])
def test_the_bound_of_memory_holds(tmp_path, options):
    bound, images = 24_000_000, rng.integers(0, 16, (60_000, 28, 28), dtype=np.uint8)
    for name, number in {"few.h5": 2000, "many.h5": len(images)}.items():
        with h5py.File(tmp_path / name, "w") as file:
            for split, part in {"train": images[:number], "test": images[: number // 10]}.items():
                file.create_dataset(f"{split}/images", data=part, **options)
                file[f"{split}/labels"] = np.arange(len(part)) % 8
    done = python("-c", MEASURED, bound, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    net, streamed, whole = map(int, done.stdout.split())
    assert bound / 2 < streamed - net <= bound
    assert whole - net > images.nbytes
