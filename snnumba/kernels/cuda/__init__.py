"""The CUDA kernels: the names and arguments of kernels/cpu, for arrays on a GPU.

Only backend.load("cuda") imports this package; it needs numba-cuda, or numba's simulator of it.
"""

from .batch import gather
from .bits import count_bits, num_words, scale_neurons, unpack
from .dense import (
    BLOCK,
    add,
    find_active,
    linear_backward,
    linear_backward_input,
    linear_forward,
    sum_over_time,
    transpose,
)
from .loss import (
    at_step_backward,
    class_targets,
    count_backward,
    count_forward,
    cross_entropy,
    first_spike_forward,
    peak_forward,
    squared_error,
)
from .optimizer import adam, clip, scale, sgd, sum_of_squares
from .parameters import add_rows_of, flip, spread, sum_shared

__all__ = [
    "BLOCK",
    "adam",
    "add",
    "add_rows_of",
    "at_step_backward",
    "class_targets",
    "clip",
    "count_backward",
    "count_bits",
    "count_forward",
    "cross_entropy",
    "find_active",
    "first_spike_forward",
    "flip",
    "gather",
    "linear_backward",
    "linear_backward_input",
    "linear_forward",
    "num_words",
    "peak_forward",
    "scale",
    "scale_neurons",
    "sgd",
    "spread",
    "squared_error",
    "sum_of_squares",
    "sum_over_time",
    "sum_shared",
    "transpose",
    "unpack",
]
