"""Files from elsewhere: nothing outside of them is read, and nothing is made that is larger than they are."""

import json
import os
import re
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

import snnumba as snn
from snnumba import checkpoint, cli, datasets, hdf5, optim
from snnumba.history import History

PAIR = np.random.default_rng(0).integers(0, 256, (40, 2, 3)).astype(np.uint8), np.arange(40) % 3
MOST = 3_000_000  # bytes that reading a file of a few thousand may take


@pytest.fixture
def files(tmp_path, monkeypatch):
    """run.h5 and data.h5, in the working folder; secret.h5 beside it, which holds what both want."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    net = snn.Network(snn.Linear(6, 4), snn.RLeaky(beta=0.9, linear_features=4), num_steps=3, seed=0)
    settings = {"data": os.path.abspath("data.h5"), "loss": "count", "correct_rate": 0.8, "incorrect_rate": 0.2}
    checkpoint.save("run.h5", net, optim.Adam(net), History(), settings)
    datasets.save("data.h5", train=PAIR, test=PAIR, name="dots")
    with h5py.File("../secret.h5", "w") as file:
        file["x"] = net.state_dict()["0.weight"]
        file["train/images"] = PAIR[0]


def virtual(name):
    def change(file):
        shape, dtype = file[name].shape, file[name].dtype
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("../secret.h5", "x", shape, dtype)
        del file[name]
        file.create_virtual_dataset(name, layout)

    return change


def external(name):
    def change(file):
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(name, shape, dtype, external=[("../secret.h5", 0, h5py.h5f.UNLIMITED)])

    return change


def replaced(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def huge(name):
    def change(file):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, (10**7, 10**6), dtype, chunks=(1, 1000))

    return change


def text(name):
    return replaced(name, "letters")


ELSEWHERE = {  # what is done to an array of a file, and what is said
    "an external link": (lambda name: replaced(name, h5py.ExternalLink("../secret.h5", "x")), "is a link to elsewhere"),
    "a soft link": (lambda name: replaced(name, h5py.SoftLink("/elsewhere")), "is a link to elsewhere"),
    "a virtual dataset": (virtual, "lie in another file; it is not opened"),
    "external storage": (external, "lie in another file; it is not opened"),
    "a huge shape": (huge, "would have .* bytes, more than a file of .* can hold"),
    "text": (text, "must hold numbers; got object"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
@pytest.mark.parametrize(("path", "name"), [("run.h5", "weights/0.weight"), ("data.h5", "train/images")])
def test_what_is_not_in_the_file_is_not_read(files, path, name, case):
    change, message = ELSEWHERE[case]
    with h5py.File(path, "r+") as file:
        change(name)(file)
    hdf5.seal(path)
    if (path, case) == ("data.h5", "text"):
        message = "images must be uint8 or floating; got object"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{path}.*{message}") as error:
            checkpoint.load(path) if path == "run.h5" else datasets.load(path)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)


def test_many_arrays_that_are_each_small_enough_are_refused_together(files):
    with h5py.File("run.h5", "r+") as file:
        for k in range(20):
            file.create_dataset(f"weights/{k}.more", (10**6,), np.float32, chunks=(1000,))
    hdf5.seal("run.h5")
    with pytest.raises(ValueError, match="more than a file of"):
        checkpoint.load("run.h5")


def test_a_group_inside_of_itself_is_looked_into_once(files):
    with h5py.File("data.h5", "r+") as file:
        file["train/again"] = file["train"]
    hdf5.seal("data.h5")
    np.testing.assert_array_equal(datasets.load("data.h5").images, PAIR[0])


CONFIGS = {  # layers of a net that are larger than the weights in the file
    "linear": [{"layer": "Linear", "in_features": 10**6, "out_features": 10**6, "bias": True}],
    "feedback": [{"layer": "RLeaky", "beta": 0.9, "linear_features": 10**6}],
    "convolution": [{"layer": "RLeaky", "beta": 0.9, "conv2d_channels": 10**5, "kernel_size": [99, 99]}],
    "cells": [{"layer": "SLSTM", "input_size": 10**6, "hidden_size": 10**6}],
    "nested": [
        {
            "layer": "RLeaky",
            "beta": 0.9,
            "recurrent": [{"layer": "Linear", "in_features": 10**6, "out_features": 10**6, "bias": True}],
        }
    ],
    "more layers": None,
}


@pytest.mark.parametrize("case", CONFIGS)
def test_no_net_is_made_that_is_larger_than_the_weights_in_the_file(files, case):
    with h5py.File("run.h5", "r+") as file:
        config = json.loads(file.attrs["net"])
        config["layers"] = CONFIGS[case] or config["layers"][:1] * 1000 + config["layers"]
        file.attrs["net"] = json.dumps(config)
    hdf5.seal("run.h5")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"run\.h5: (state lacks|0\.\S+ must be)"):
            checkpoint.load("run.h5")
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("command", [["evaluate", "run.h5"], ["train", "--resume", "run.h5"]])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"net": {"num_steps": 10**12}}, "the net would take about .* GiB of memory"),
        ({"settings": {"batch_size": 10**12}}, "the net would take about .* GiB of memory"),
        ({"settings": {"batch_size": "many"}}, "batch_size must be a positive integer; got 'many'"),
        ({"settings": {"data": "pipe"}}, "pipe is not an HDF5 file"),
        ({"settings": {"data": "../run.h5\n"}}, "No such file or directory"),
    ],
)
def test_settings_of_a_run_cannot_make_the_command_line_swell_or_wait(files, capsys, command, changed, message):
    os.mkfifo("pipe")
    run = checkpoint.load("run.h5")
    run.settings.update({"batch_size": 8, "lr": 0.1, "epochs": 2, "seed": 0} | changed.get("settings", {}))
    checkpoint.save("run.h5", run.net, run.optimizer, run.history, run.settings)
    with h5py.File("run.h5", "r+") as file:
        file.attrs["net"] = json.dumps(json.loads(file.attrs["net"]) | changed.get("net", {}))
    hdf5.seal("run.h5")
    assert cli.main(command) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_a_run_without_a_checksum_is_refused(files):
    with open("run.h5", "rb+") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"run\.h5: damaged: it does not say what its checksum is"):
        checkpoint.load("run.h5")


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (7, 1, 3)}, {"compression": "lzf"}])
def test_data_that_are_packed_or_in_chunks_are_read(files, options):
    with h5py.File("own.h5", "w") as file:
        for split in ("train", "test"):
            file.create_dataset(f"{split}/images", data=PAIR[0], **options)
            file[f"{split}/labels"] = PAIR[1]
    np.testing.assert_array_equal(datasets.load("own.h5").images, PAIR[0])


def test_an_image_of_zeros_that_is_packed_well_is_read(files):
    with h5py.File("own.h5", "w") as file:
        zeros = np.zeros((4000, 28, 28), np.uint8)
        for split in ("train", "test"):
            file.create_dataset(f"{split}/images", data=zeros, compression="gzip", compression_opts=9)
            file[f"{split}/labels"] = np.zeros(4000, np.uint8)
    assert len(datasets.load("own.h5")) == 4000


WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    input()
"""


@pytest.mark.compiled
def test_a_file_that_another_process_writes_is_refused(files):
    with h5py.File("own.h5", "w") as file:
        file["train/images"], file["train/labels"] = PAIR
    for path in "own.h5", "data.h5":
        command = [sys.executable, "-c", WRITER, path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            writer.stdout.readline()
            with pytest.raises(ValueError, match=rf"{path}, train: the file is open to write"):
                datasets.load(path)
            writer.communicate("\n")
