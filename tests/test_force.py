"""By force: processes killed at random moments, files damaged at random places, thousands of steps in a row.

SNNUMBA_FORCE=long asks for the long form; each test prints what it counted.
"""

import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import search_path

import snnumba as snn
from snnumba import checkpoint, cli, datasets, hdf5, optim
from snnumba import functional as SF
from snnumba.datasets import Dataset

pytestmark = pytest.mark.compiled

LONG = os.environ.get("SNNUMBA_FORCE") == "long"
KILLS, FAULTS, STEPS = (60, 1000, 10_000) if LONG else (5, 60, 500)
PAUSE = 0.15  # seconds at most from a save to the kill after it: some ten steps, each with a save
GROWTH = 2**21  # bytes: the history has a number a step, and the allocator its own ways

forkserver = multiprocessing.get_context("forkserver")  # which has what it needs loaded: a process starts in no time
forkserver.set_forkserver_preload(["snnumba.cli"])


@pytest.fixture
def told(capsys):
    """Prints what was counted, whether output is captured or not."""

    def tell(**counts):
        with capsys.disabled():
            print("\n  " + ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()), end="")

    return tell


def dots(samples, seed):
    return np.random.default_rng(seed).integers(0, 256, (samples, 4, 4)).astype(np.uint8), np.arange(samples) % 4


@pytest.fixture
def data(tmp_path, monkeypatch):
    """data.h5 in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", search_path())  # for the server that forks
    datasets.save("data.h5", train=dots(256, 0), test=dots(32, 1), name="dots", classes=["a", "b", "c", "d"])
    return tmp_path


def quietly(arguments, folder):
    """The command line in a process of its own."""
    os.chdir(folder)
    sys.stdout = sys.stderr = open("output.txt", "a")  # noqa: SIM115
    sys.exit(cli.main(arguments))


def content(run):
    """All numbers and texts of a run, but for how long it took."""
    arrays = {f"weights/{name}": x for name, x in run.net.state_dict().items()} | run.optimizer.state_dict()
    history = vars(run.history) | {"loss": run.history.loss.tobytes(), "seconds": None}
    texts = run.net.config, run.optimizer.config, run.settings, run.versions, repr(run.schedule)
    return {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in arrays.items()}, history, texts


def stamp(path):
    """What is another after a save."""
    return os.stat(path).st_ino if path.exists() else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_one_never_killed(data, told):
    options = ["--data", "data.h5", "--hidden", "16", "--num-steps", "4", "--batch-size", "8", "--epochs", "8"]
    options += ["--schedule", "step", "--clip", "1"]
    assert cli.main(["train", *options, "--out", "whole.h5"]) == 0
    whole, chance, path = content(checkpoint.load("whole.h5")), random.Random(0), Path("run.h5")
    killed = amid_a_save = amid_an_epoch = ended = 0
    while killed < KILLS or path.exists():
        begin = ["train", "--resume", "run.h5"] if path.exists() else ["train", *options]
        every = chance.choice(["1e-9", "1e-9", "2e-4"])  # minutes
        process = forkserver.Process(target=quietly, args=([*begin, "--save-every", every], str(data)))
        before = stamp(path)
        process.start()
        while killed < KILLS and process.is_alive() and stamp(path) == before:
            time.sleep(1e-4)
        if killed < KILLS:
            time.sleep(chance.random() * PAUSE)
            process.kill()
        process.join()
        amid_a_save += bool(list(data.glob(".run.h5.*.part")))
        run = checkpoint.load(path)
        if process.exitcode == 0:
            assert content(run) == whole
            ended += 1
            path.unlink()
        else:
            assert process.exitcode == -9, Path("output.txt").read_text()
            killed += 1
            amid_an_epoch += run.history.begun is not None
    assert not list(data.glob(".*.part"))  # what the killed left behind is cleared away
    told(killed=killed, amid_a_save=amid_a_save, saved_amid_an_epoch=amid_an_epoch, runs_that_ended=ended, lost=0)


def damaged(chance, good):
    """A file's content with some bits flipped, cut short, or with a piece of zeros."""
    content = bytearray(good)
    kind = chance.choice(["flip", "flip", "flips", "cut", "zeros"])
    if kind == "cut":
        return bytes(content[: chance.randrange(len(content))])
    if kind == "zeros":
        begin = chance.randrange(len(content))
        content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))
    for _ in range({"flip": 1, "flips": 8}.get(kind, 0)):
        place = chance.randrange(len(content))
        if chance.random() < 0.5:  # where HDF5 keeps what it knows of the arrays, and we keep the checksum
            place %= 4096
        content[place] ^= 1 << chance.randrange(8)
    return bytes(content)


def split_content(path):
    """All that a data set is."""
    splits = [datasets.load(path, split) for split in ("train", "test")]
    return [(x.images.tobytes(), x.images.shape, x.labels.tobytes(), x.name, x.classes) for x in splits]


def test_a_damaged_file_is_told_as_such_or_gives_the_right_numbers(data, told):
    assert cli.main(["train", "--data", "data.h5", "--hidden", "8", "--num-steps", "3", "--epochs", "1"]) == 0
    chance, told_of, unharmed = random.Random(1), 0, 0
    readers = {"run.h5": lambda path: content(checkpoint.load(path)), "data.h5": split_content}
    for path, read in readers.items():
        good, right = Path(path).read_bytes(), read(path)
        for _ in range(FAULTS // 2):
            Path(f"bad.{path}").write_bytes(damaged(chance, good))
            try:
                seen = read(f"bad.{path}")
            except ValueError as error:
                seen = str(error)
            if isinstance(seen, str):
                assert f"bad.{path}" in seen
                assert "\n" not in seen
                told_of += 1
            else:
                assert seen == right
                unharmed += 1
    told(faults=told_of + unharmed, told_of=told_of, harmless=unharmed, unnoticed=0)


def read_hostile(path, folder):
    """Read a damaged file whose checksum is right."""
    os.chdir(folder)
    try:
        split_content(path) if "data" in path else checkpoint.load(path)
    except ValueError:
        sys.exit(3)
    sys.exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_damaged_file_with_a_checksum_made_for_it_does_no_harm(data, told):
    assert cli.main(["train", "--data", "data.h5", "--hidden", "8", "--num-steps", "3", "--epochs", "1"]) == 0
    chance, refused, read = random.Random(2), 0, 0
    for path in ("run.h5", "data.h5"):
        good = Path(path).read_bytes()
        for _ in range(FAULTS // 20):
            Path(f"bad.{path}").write_bytes(damaged(chance, good).ljust(hdf5.BLOCK, b"\0"))
            hdf5.seal(f"bad.{path}")
            process = forkserver.Process(target=read_hostile, args=(f"bad.{path}", str(data)))
            process.start()
            process.join(60)
            assert process.exitcode in (0, 3), Path(f"bad.{path}")
            refused, read = refused + (process.exitcode == 3), read + (process.exitcode == 0)
    told(files=refused + read, refused=refused, read=read, crashes=0)


def resident():
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat_over_many_steps(told):
    net = snn.Network(
        snn.Linear(16, 32), snn.RLeaky(beta=0.9, linear_features=32), snn.Dropout(0.1),
        snn.Linear(32, 4), snn.RLeaky(beta=0.9, linear_features=4), num_steps=5, seed=0,
    )  # fmt: skip
    train, sizes = Dataset(*dots(800, 0)), []
    epochs = STEPS // 100
    snn.fit(net, train, SF.mse_count_loss(0.8, 0.2), optim.Adam(net), epochs, train, batch_size=8,
            on_epoch=lambda *_: sizes.append(resident()))  # fmt: skip
    assert sizes[-1] - sizes[epochs // 5] < GROWTH
    told(steps=STEPS, bytes_after_a_fifth_of_them=sizes[epochs // 5], bytes_at_the_end=sizes[-1])
