"""Samples with numbers for targets: what a batch holds, and what is refused."""

import numpy as np
import pytest

from snnumba.datasets import Loader
from snnumba.regression import RegressionDataset

FEATURES = {  # N = 6: by whether they have a time axis, and whether they are images
    "constant": np.arange(6.0 * 2).reshape(6, 2),
    "over time": np.arange(5.0 * 6 * 2).reshape(5, 6, 2),
    "images": np.arange(6.0 * 2 * 3 * 4).reshape(6, 2, 3, 4),
    "images over time": np.arange(5.0 * 6 * 2 * 3 * 4).reshape(5, 6, 2, 3, 4),
}
TARGETS = {"one": np.arange(6.0 * 3).reshape(6, 3), "over time": np.arange(5.0 * 6 * 3).reshape(5, 6, 3)}


def picked(array, indices, timed):
    return array[:, indices] if timed else array[indices]


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("features", FEATURES)
def test_a_batch_holds_the_samples_asked_for_with_time_first(features, targets):
    data = RegressionDataset(FEATURES[features], TARGETS[targets])
    x, y = data.batch([4, 0, 4])
    np.testing.assert_array_equal(x, picked(FEATURES[features], [4, 0, 4], "time" in features))
    np.testing.assert_array_equal(y, picked(TARGETS[targets], [4, 0, 4], "time" in targets))
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    assert (x.dtype, y.dtype, len(data)) == (np.float32, np.float32, 6)
    assert data.num_steps == (5 if "time" in features + targets else None)


def test_a_batch_is_written_where_it_is_asked_for():
    data = RegressionDataset(FEATURES["over time"], TARGETS["one"], dtype="float64")
    out = tuple(np.empty(shape, dtype) for shape, dtype in data.layout(2))
    x, y = data.batch([1, 2], out=out)
    assert x is out[0]
    assert y is out[1]
    np.testing.assert_array_equal(x, FEATURES["over time"][:, 1:3])


def test_a_loader_hands_out_each_sample_once():
    data = RegressionDataset(FEATURES["over time"], TARGETS["one"])
    seen = np.concatenate([y[:, 0] for _, y in Loader(data, 4, drop_last=False, seed=1)])
    assert sorted(seen) == list(TARGETS["one"][:, 0])


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (np.zeros(6), np.zeros((6, 1)), r"features must be .*; got \(6,\)"),
        (np.zeros((5, 0, 2)), np.zeros((0, 1)), r"features must be .*, not empty; got \(5, 0, 2\)"),
        (np.zeros((6, 2)), np.zeros(6), r"targets must be \(N, K\) or \(T, N, K\), not empty; got \(6,\)"),
        (np.zeros((6, 2)), np.zeros((5, 2)), "features and targets must have as many samples; got 6 and 5"),
        (np.zeros((5, 6, 2)), np.zeros((4, 6, 2)), "features and targets must have as many steps; got 5 and 4"),
        (np.full((6, 2), np.nan), np.zeros((6, 2)), r"features must hold finite numbers; got .*nan.* at \(0, 0\)"),
        (np.zeros((6, 2)), np.full((6, 2), "a"), "targets must hold numbers; got <U1"),
    ],
)
def test_arrays_that_are_not_samples_are_refused(features, targets, message):
    with pytest.raises(ValueError, match=message):
        RegressionDataset(features, targets)


def test_indices_and_out_are_checked():
    data = RegressionDataset(FEATURES["over time"], TARGETS["one"])
    with pytest.raises(IndexError, match="indices must be from 0 to 5; got 6 to 6"):
        data.batch([6])
    with pytest.raises(ValueError, match=r"out x must be float32 \(5, 1, 2\); got float32 \(1, 2\)"):
        data.batch([0], out=(np.empty((1, 2), np.float32), np.empty((1, 3), np.float32)))
