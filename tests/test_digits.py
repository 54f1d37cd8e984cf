"""The built-in digits: the same each time, balanced, and neither hopeless nor trivial to tell apart."""

import hashlib

import numpy as np
import pytest
from processes import python

from snnumba import digits


@pytest.fixture(scope="module")
def splits():
    return digits.generate(num_train=2000, num_test=1000)


def test_digits_are_28_by_28_bytes_in_ten_classes(splits):
    train, test = splits
    assert (train.images.shape, test.images.shape) == ((2000, 28, 28), (1000, 28, 28))
    assert train.images.dtype == np.uint8
    assert train.classes == tuple("0123456789")
    assert train.name == "digits (synthetic)"


@pytest.mark.compiled
def test_a_seed_gives_the_same_bytes_in_another_process(splits):
    code = (
        "import hashlib; from snnumba import digits; data, _ = digits.generate(num_train=2000, num_test=10);"
        "print(hashlib.sha256(data.images).hexdigest(), hashlib.sha256(data.labels).hexdigest())"
    )
    got = python("-c", code).stdout.split()
    train, _ = splits
    assert got == [hashlib.sha256(array).hexdigest() for array in (train.images, train.labels)]


def test_a_split_does_not_depend_on_the_size_of_the_other(splits):
    _, test = digits.generate(num_train=10, num_test=1000)
    assert np.array_equal(test.images, splits[1].images)


def test_another_seed_gives_other_digits(splits):
    _, test = digits.generate(seed=1, num_train=10, num_test=1000)
    assert not np.array_equal(test.images, splits[1].images)
    assert not np.array_equal(test.labels, splits[1].labels)


def test_train_and_test_share_no_image(splits):
    train, test = ({image.tobytes() for image in data.images} for data in splits)
    assert not train & test
    assert len(train) == 2000  # nor does an image come twice


@pytest.mark.parametrize("number", [10, 1000, 1234])
def test_classes_are_balanced(number):
    train, _ = digits.generate(num_train=number, num_test=10)
    counts = np.bincount(train.labels, minlength=10)
    assert counts.max() - counts.min() <= 1


def test_labels_come_in_no_order(splits):
    labels = splits[0].labels
    assert 0.05 < np.mean(labels[1:] == labels[:-1]) < 0.15  # 0.1 by chance, 0.007 of deviation


@pytest.mark.compiled
def test_nearest_mean_tells_digits_apart_but_not_all(splits):
    (x, y), (x_test, y_test) = (data[:] for data in splits)
    means = np.stack([x[y == k].mean(0) for k in range(10)])
    distance = ((x_test[:, None] - means) ** 2).sum(-1)
    assert 0.5 < np.mean(distance.argmin(1) == y_test) < 0.8


def test_no_digit_is_blank_or_cut_off(splits):
    images = splits[0].images
    assert images.max((1, 2)).min() > 64
    edge = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.mean(edge > 96) < 0.01  # 96 is above the noise


def test_transforms_reach_the_digits():
    train, test = digits.generate(num_train=20, num_test=10, resize=14, flatten=False, mean=0.5)
    assert train.sample_shape == test.sample_shape == (1, 14, 14)
    assert train[:][0].min() == -0.5


def test_a_negative_seed_and_an_empty_split_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        digits.generate(seed=-1)
    with pytest.raises(ValueError, match=r"not empty; got \(0, 28, 28\)"):
        digits.generate(num_train=0)
