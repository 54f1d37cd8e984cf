"""Datasets: what a batch holds, the order of batches, HDF5 files there and back, and what is refused and how."""

import errno
import os
import tracemalloc

import h5py
import numpy as np
import pytest

from snnumba import datasets, hdf5
from snnumba.datasets import Dataset, Loader, load, open_data, save

rng = np.random.default_rng(0)
N = 50
GREY = rng.integers(0, 256, (N, 12, 10), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (N, 12, 10, 3), dtype=np.uint8)
FLOATS = rng.normal(size=(N, 12, 10))
LABELS = np.arange(N) % 7


# Batches


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_is_pixels_scaled_then_normalised_to_the_bit(dtype):
    of = np.dtype(dtype).type
    x, y = Dataset(GREY, LABELS, mean=0.13, std=0.31, dtype=dtype).batch([4, 0, 4])
    pixels = GREY[[4, 0, 4]].reshape(3, -1).astype(dtype)
    assert np.array_equal(x, (pixels / of(255) - of(0.13)) / of(0.31))
    assert x.dtype == dtype
    assert y.dtype == np.int64
    assert y.tolist() == [4, 0, 4]


def test_pixels_are_left_as_they_are_without_scale():
    assert np.array_equal(Dataset(GREY, LABELS, scale=False)[:][0], GREY.reshape(N, -1))


def test_floats_are_normalised_and_not_scaled():
    x, _ = Dataset(FLOATS, LABELS, mean=1, std=2, dtype="float64")[:]
    assert np.array_equal(x, (FLOATS.reshape(N, -1) - 1) / 2)


def test_samples_are_channels_first():
    assert np.array_equal(Dataset(COLOUR, LABELS, flatten=False, scale=False)[:][0], COLOUR.transpose(0, 3, 1, 2))
    assert np.array_equal(Dataset(COLOUR, LABELS, scale=False)[:][0], COLOUR.transpose(0, 3, 1, 2).reshape(N, -1))
    assert Dataset(GREY, LABELS, flatten=False)[:][0].shape == (N, 1, 12, 10)


def test_images_keep_their_shape_and_are_not_copied():
    data = Dataset(GREY, LABELS)
    assert np.shares_memory(data.images, GREY)
    assert data.images.shape == GREY.shape
    assert np.array_equal(Dataset(COLOUR, LABELS).images, COLOUR)


def test_an_index_gives_a_sample_and_a_slice_or_mask_a_batch():
    data = Dataset(GREY, LABELS)
    x, y = data[-1]
    assert x.shape == (120,)
    assert y == LABELS[-1]
    assert data[3:9][1].tolist() == LABELS[3:9].tolist()
    assert data[LABELS == 2][1].tolist() == [2] * 7
    with pytest.raises(IndexError):
        data[N]


@pytest.mark.compiled
def test_out_is_written_and_nothing_is_allocated():
    for images in (GREY, FLOATS):
        data = Dataset(images, LABELS, mean=0.5)
        out = np.empty((20, 120), np.float32), np.empty(20, np.int64)
        indices = np.arange(20)
        data.batch(indices, out)  # compiles
        tracemalloc.start()
        x, y = data.batch(indices, out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert x is out[0]
        assert y is out[1]
        assert np.array_equal(x, data.batch(indices)[0])
        assert peak < x.nbytes / 2


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            (np.empty((2, 12, 10), np.float32), np.empty(2, int)),
            r"out x must be float32 \(2, 120\); got .*\(2, 12, 10\)",
        ),
        ((np.empty((2, 120)), np.empty(2, int)), r"out x must be float32 \(2, 120\); got float64 \(2, 120\)"),
        ((np.empty((120, 2), np.float32).T, np.empty(2, int)), r"out x .*\(2, 120\), not contiguous"),
        ((np.empty((2, 120), np.float32), np.empty(2)), r"out y must be int64 \(2,\); got float64 \(2,\)"),
    ],
)
def test_out_that_does_not_fit_is_refused(out, message):
    with pytest.raises(ValueError, match=message):
        Dataset(GREY, LABELS).batch([0, 1], out)


@pytest.mark.parametrize("indices", [[0, N], [-1]])
def test_indices_out_of_range_are_refused(indices):
    with pytest.raises(IndexError, match=f"from 0 to {N - 1}; got {min(indices)} to {max(indices)}"):
        Dataset(GREY, LABELS).batch(indices)


@pytest.mark.parametrize("indices", [[0.5], [[0, 1]], 3, [True, False]])
def test_indices_that_are_not_a_list_of_integers_are_refused(indices):
    with pytest.raises(TypeError, match=r"indices must be \(B,\) integers; got"):
        Dataset(GREY, LABELS).batch(indices)


# Transforms


def bilinear(image, height, width):
    """Mean of the pixels under a triangle as wide as a new pixel, at least an old one; rows first, in loops."""

    def along(signal, new):
        old = len(signal)
        scale = old / new
        result = []
        for i in range(new):
            weights = [max(0, 1 - abs((j + 0.5 - (i + 0.5) * scale) / max(scale, 1))) for j in range(old)]
            result.append(sum(w * s for w, s in zip(weights, signal, strict=True)) / sum(weights))
        return np.array(result)

    return np.apply_along_axis(along, 1, np.apply_along_axis(along, 0, image, height), width)


@pytest.mark.parametrize("size", [(6, 5), (24, 20), (7, 13), (1, 1)])
def test_resize_is_the_bilinear_filter(size):
    expected = np.array([bilinear(image, *size) for image in GREY[:3].astype(float)])
    images = Dataset(GREY, LABELS, resize=size).images[:3]
    assert images.dtype == np.uint8
    assert np.abs(images - expected).max() <= 0.5 + 1e-3  # rounded once, from float32
    floats = Dataset(FLOATS, LABELS, resize=size, dtype="float64").images[:3]
    expected = np.array([bilinear(image, *size) for image in FLOATS[:3]])
    assert np.abs(floats - expected).max() < 1e-6  # float32 weights


def test_an_int_resizes_the_shorter_side():
    assert Dataset(GREY, LABELS, resize=5).images.shape == (N, 6, 5)
    assert Dataset(COLOUR, LABELS, resize=20).images.shape == (N, 24, 20, 3)


def test_resizing_to_the_same_size_changes_nothing():
    assert np.array_equal(Dataset(GREY, LABELS, resize=(12, 10)).images, GREY)


def test_grayscale_is_the_luma_of_itu_r_601():
    expected = COLOUR @ [0.299, 0.587, 0.114]
    images = Dataset(COLOUR, LABELS, grayscale=True).images
    assert images.shape == (N, 12, 10)
    assert np.abs(images - expected).max() <= 0.5 + 0.01  # rounded; weights in 16 bits


def test_grayscale_leaves_one_channel_as_it_is():
    assert np.array_equal(Dataset(GREY[..., None], LABELS, grayscale=True).images, GREY)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"resize": 0}, ValueError, "resize must be at least 1; got 0"),
        ({"resize": 2.5}, TypeError, "resize must be a whole number; got 2.5"),
        ({"resize": (3, 4, 5)}, ValueError, r"resize must be a size or \(height, width\); got \(3, 4, 5\)"),
        ({"std": 0}, ValueError, "std must be above 0; got 0"),
        ({"std": float("inf")}, ValueError, "std must be finite; got inf"),
        ({"mean": (0.5,)}, TypeError, r"mean must be a number; got \(0.5,\)"),
        ({"dtype": "float16"}, ValueError, 'dtype must be "float32" or "float64"; got'),
        ({"classes": ["a", "b"]}, ValueError, r"labels\[2\] must be from 0 to 1; got 2"),
        ({"classes": "abcdefg"}, ValueError, "classes must be a sequence of names; got 'abcdefg'"),
    ],
)
def test_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        Dataset(GREY, LABELS, **arguments)


def test_grayscale_of_two_channels_is_refused():
    with pytest.raises(ValueError, match="images of 1 or 3 channels; got 2"):
        Dataset(COLOUR[..., :2], LABELS, grayscale=True)


# Content


def with_value(array, where, value):
    array = array.copy()
    array[where] = value
    return array


CONTENT = {
    "images of integers": ((GREY.astype(int), LABELS), "images must be uint8 or floating; got int64"),
    "flat images": ((GREY.reshape(N, -1), LABELS), r"images must be .*; got \(50, 120\)"),
    "no images": ((GREY[:0], LABELS[:0]), r"images must be .* not empty; got \(0, 12, 10\)"),
    "float labels": ((GREY, LABELS / 2), "labels must be integers; got float64"),
    "one-hot labels": ((GREY, np.eye(7, dtype=int)[LABELS]), r"labels must be \(N,\); got \(50, 7\)"),
    "different lengths": ((GREY, LABELS[:-1]), "each image must have one label; got 50 images and 49 labels"),
    "a negative label": ((GREY, with_value(LABELS, 3, -1)), r"labels\[3\] must be from 0 to 999; got -1"),
    "a huge label": ((GREY, with_value(LABELS, 9, 10**9)), r"labels\[9\] must be from 0 to 999; got 1000000000"),
    "NaN": ((with_value(FLOATS, (8, 7, 6), np.nan), LABELS), r"images\[8, 7, 6\] must be finite; got nan"),
    "infinity": ((with_value(FLOATS, (8, 7, 6), -np.inf), LABELS), r"images\[8, 7, 6\] must be finite; got -inf"),
}


@pytest.mark.parametrize("what", CONTENT)
def test_wrong_arrays_are_refused(what):
    (images, labels), message = CONTENT[what]
    with pytest.raises(ValueError, match=message):
        Dataset(images, labels)


@pytest.mark.parametrize("what", CONTENT)
def test_wrong_arrays_in_a_file_are_refused_with_its_name(what, tmp_path):
    (images, labels), message = CONTENT[what]
    path = tmp_path / "wrong.h5"
    with h5py.File(path, "w") as file:
        file["train/images"], file["train/labels"] = images, labels
    with pytest.raises(ValueError, match=rf"wrong\.h5, train: {message}") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_float_too_large_for_the_dtype_is_refused():
    images = with_value(FLOATS, (1, 2, 3), 1e300)
    Dataset(images, LABELS, dtype="float64")
    with pytest.raises(ValueError, match=r"images\[1, 2, 3\] must be finite; got 1e\+300"):
        Dataset(images, LABELS)


# Files


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new" / "set.h5"
    save(path, train=(GREY, LABELS), test=(GREY[:9], LABELS[:9]), name="set", classes=list("tuvwxyz"))
    return path


@pytest.mark.parametrize("images", [GREY, COLOUR, FLOATS, FLOATS.astype(np.float32)])
def test_a_set_comes_back_from_its_file(images, tmp_path):
    path = tmp_path / "new" / "set.h5"
    names = list("abcdefg")
    save(path, train=(images, LABELS), test=(images[::-1], LABELS), name="set", classes=names, source="here")
    train, test = open_data(str(path), dtype="float64")
    assert np.array_equal(train.images, images)
    assert np.array_equal(test.images, images[::-1])
    assert np.array_equal(train.labels, LABELS)
    assert (train.name, train.classes) == ("set", tuple(names))
    assert [file.name for file in path.parent.iterdir()] == ["set.h5"]
    with h5py.File(path) as file:
        assert file.attrs["source"] == "here"
        assert file["train/images"].dtype == images.dtype
        assert file["train/labels"].dtype == np.uint8


def test_a_file_without_attributes_is_read(tmp_path):
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["train/images"], file["train/labels"] = COLOUR, LABELS.astype(np.uint16)
    data = load(path, grayscale=True, resize=5)
    assert (data.name, data.num_classes, data.sample_shape) == ("plain", 7, (30,))


def test_a_dataset_is_saved_with_its_class_names(path, tmp_path):
    save(tmp_path / "copy.h5", train=load(path), test=load(path, "test"), name="copy")
    assert load(tmp_path / "copy.h5", "test").classes == tuple("tuvwxyz")


@pytest.mark.parametrize("wrong", [0, 1])
def test_saving_wrong_arrays_writes_nothing(wrong, tmp_path):
    pairs = [(GREY, LABELS), (GREY, LABELS)]
    pairs[wrong] = (GREY, LABELS[:-1])
    with pytest.raises(ValueError, match=f"{('train', 'test')[wrong]}: .* 50 images and 49 labels"):
        save(tmp_path / "new" / "set.h5", train=pairs[0], test=pairs[1], name="set")
    assert not list(tmp_path.iterdir())


def test_saving_splits_that_differ_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"alike; got uint8 \(12, 10\) and uint8 \(12, 9\)"):
        save(tmp_path / "set.h5", train=(GREY, LABELS), test=(GREY[..., 1:], LABELS), name="set")
    with pytest.raises(ValueError, match="test has 7 classes; train has only 6"):
        save(tmp_path / "set.h5", train=(GREY[:6], LABELS[:6]), test=(GREY, LABELS), name="set")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(datasets.os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        save(path, train=(COLOUR, LABELS), test=(COLOUR, LABELS), name="other")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["set.h5"]


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file .*none\.h5"):
        load(tmp_path / "none.h5")
    with pytest.raises(IsADirectoryError, match=r"Is a directory: .*"):
        load(tmp_path)


def test_a_file_that_is_not_hdf5_is_named(tmp_path):
    path = tmp_path / "text.h5"
    for content in (b"", b"not HDF5"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"text\.h5 is not an HDF5 file"):
            load(path)


def test_a_missing_dataset_is_named_with_what_is_there(path):
    with pytest.raises(ValueError, match=r"no dataset /valid/images; there is /test/images, /test/labels, /train/im"):
        load(path, "valid")
    with h5py.File(path, "w") as file:
        file.create_group("train/images")
    with pytest.raises(ValueError, match="no dataset /train/images; there is none at all"):
        load(path)


def test_changed_pixels_and_labels_are_damage(path):
    for name in ("images", "labels"):
        with h5py.File(path, "r+") as file:
            file[f"train/{name}"][5] = 1
        with pytest.raises(ValueError, match=r"set\.h5, test: damaged, or changed since it was written: sha256 is"):
            load(path, "test")
        with path.open("rb+") as file:
            file.write(bytes(hdf5.BLOCK))  # as in a file of another origin
        with pytest.raises(ValueError, match=f"/train/{name} is damaged: sha256 is .*, the file says"):
            load(path)
        assert len(load(path, "test")) == 9
        with h5py.File(path, "r+") as file:
            file["train/images"][5] = GREY[5]
        hdf5.seal(path)


def test_a_file_cut_short_is_damage(path):
    content = path.read_bytes()
    for size in (len(content) // 2, 600):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"set\.h5, train: damaged, or changed") as error:
            load(path)
        assert "\n" not in str(error.value)


def test_a_file_of_another_origin_cut_short_is_damage(tmp_path):
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["train/images"], file["train/labels"] = GREY, LABELS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"plain\.h5, train: the file is damaged: .*truncated"):
        load(path)


def test_a_file_is_read_where_there_is_no_place_for_locks(path, monkeypatch):
    def none_left(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none_left)
    assert len(load(path)) == N


@pytest.mark.skipif(os.name != "posix", reason="needs a system that removes open files")
def test_a_file_that_loses_its_name_while_it_is_open_is_read_to_its_end(path):
    with hdf5.opened(path) as file:
        path.unlink()
        np.testing.assert_array_equal(hdf5.part(file["train/images"]), GREY)


def test_open_data_chooses_mnist_where_it_is_and_digits_else(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_data()[0].name == open_data("digits")[0].name == "digits (synthetic)"
    with pytest.raises(FileNotFoundError, match=r"no data/mnist\.h5 here: `snnumba data mnist` downloads it, .*--from"):
        open_data("mnist")
    (tmp_path / "data").mkdir()
    path.rename(tmp_path / "data" / "mnist.h5")
    assert [len(data) for data in open_data()] == [N, 9]
    assert [len(data) for data in open_data("mnist", resize=5)] == [N, 9]


# Order


def test_an_epoch_covers_each_sample_once():
    loader = Loader(Dataset(GREY, LABELS), 8, drop_last=False)
    assert len(loader) == 7
    indices = list(loader.indices(0))
    assert [len(batch) for batch in indices] == [8] * 6 + [2]
    assert sorted(np.concatenate(indices)) == list(range(N))


def test_drop_last_leaves_out_the_short_batch():
    loader = Loader(Dataset(GREY, LABELS), 8)
    assert len(loader) == 6
    assert [len(y) for _, y in loader] == [8] * 6


def test_order_depends_on_seed_and_epoch_alone():
    data = Dataset(GREY, LABELS)
    one, two = Loader(data, 8, seed=3), Loader(data, 5, seed=3, drop_last=False)
    list(one)
    assert np.array_equal(one.order(4), two.order(4))
    assert not np.array_equal(one.order(4), one.order(5))
    assert not np.array_equal(one.order(4), Loader(data, 8, seed=4).order(4))


def test_each_pass_is_the_next_epoch():
    loader = Loader(Dataset(GREY, LABELS), 8)
    for epoch in range(3):
        assert loader.epoch == epoch
        for (x, y), indices in zip(loader, loader.indices(epoch), strict=True):
            assert np.array_equal(x, loader.dataset.batch(indices)[0])
            assert np.array_equal(y, LABELS[indices])


def test_batches_may_be_kept():
    batches = [x for x, _ in Loader(Dataset(GREY, LABELS), 8, shuffle=False)]
    assert np.array_equal(np.concatenate(batches), Dataset(GREY, LABELS)[:48][0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": 8.0}, TypeError, "batch_size must be a whole number; got 8.0"),
        ({"batch_size": 51}, ValueError, "batch_size 51 is more than the 50 samples: no batch with drop_last"),
        ({"seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"seed": None}, TypeError, "seed must be a whole number; got None"),
    ],
)
def test_loader_refuses_arguments_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        Loader(Dataset(GREY, LABELS), **arguments)
