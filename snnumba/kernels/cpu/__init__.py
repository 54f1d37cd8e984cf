"""The CPU kernels: serial loop nests compiled by Numba, run over ranges of samples or rows on threads."""

from ._compile import cache_folder
from ._threads import available_threads, team
from .batch import gather
from .bits import count_bits, num_words, scale_neurons, unpack
from .dense import (
    BLOCK,
    find_active,
    linear_backward,
    linear_backward_input,
    linear_forward,
    sum_over_time,
    transpose,
)
from .lif import lif_backward, lif_forward, one_to_one_backward, rows_together
from .loss import largest_sum, mse_count, mse_membrane
from .optimizer import adam, clip, scale, sgd, sum_of_squares

__all__ = [
    "BLOCK",
    "adam",
    "available_threads",
    "cache_folder",
    "clip",
    "count_bits",
    "find_active",
    "gather",
    "largest_sum",
    "lif_backward",
    "lif_forward",
    "linear_backward",
    "linear_backward_input",
    "linear_forward",
    "mse_count",
    "mse_membrane",
    "num_words",
    "one_to_one_backward",
    "rows_together",
    "scale",
    "scale_neurons",
    "sgd",
    "sum_of_squares",
    "sum_over_time",
    "team",
    "transpose",
    "unpack",
]
