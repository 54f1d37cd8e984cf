"""The CPU kernels: serial loop nests compiled by Numba, run over ranges of samples or rows on threads."""

from ._cache import cache_folder
from ._threads import MOST_THREADS, available_threads, team
from .batch import gather
from .bits import count_bits, count_spikes, num_words, scale_neurons, unpack
from .conv import TAPS, conv_backward, conv_forward, conv_windows, sum_blocks
from .dense import (
    BLOCK,
    add,
    find_active,
    linear_backward,
    linear_backward_input,
    linear_forward,
    num_input_parts,
    num_parts,
    sum_over_time,
    transpose,
)
from .dropout import dropout_backward, dropout_forward, next_call
from .graph import Graph
from .lif import lif_backward, lif_backward_with, lif_forward, one_to_one_backward
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
from .lstm import lstm_backward, lstm_backward_with, lstm_forward
from .optimizer import adam, clip, clip_norm, last_not_finite, sgd
from .parameters import add_rows_of, flip, spread, sum_shared
from .pool import (
    avg_pool_backward,
    avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
    max_pool_spikes,
    pool_windows,
)
from .workspace import Workspace, aligned, as_array, check_array, copy, fill, from_host, outputs_first, to_host, write

__all__ = [
    "BLOCK",
    "MOST_THREADS",
    "TAPS",
    "Graph",
    "Workspace",
    "adam",
    "add",
    "add_rows_of",
    "aligned",
    "as_array",
    "at_step_backward",
    "available_threads",
    "avg_pool_backward",
    "avg_pool_forward",
    "cache_folder",
    "check_array",
    "class_targets",
    "clip",
    "clip_norm",
    "conv_backward",
    "conv_forward",
    "conv_windows",
    "copy",
    "count_backward",
    "count_bits",
    "count_forward",
    "count_spikes",
    "cross_entropy",
    "dropout_backward",
    "dropout_forward",
    "fill",
    "find_active",
    "first_spike_forward",
    "flip",
    "from_host",
    "gather",
    "last_not_finite",
    "lif_backward",
    "lif_backward_with",
    "lif_forward",
    "linear_backward",
    "linear_backward_input",
    "linear_forward",
    "lstm_backward",
    "lstm_backward_with",
    "lstm_forward",
    "max_pool_backward",
    "max_pool_forward",
    "max_pool_spikes",
    "next_call",
    "num_input_parts",
    "num_parts",
    "num_words",
    "one_to_one_backward",
    "outputs_first",
    "peak_forward",
    "pool_windows",
    "scale_neurons",
    "sgd",
    "spread",
    "squared_error",
    "sum_blocks",
    "sum_over_time",
    "sum_shared",
    "team",
    "to_host",
    "transpose",
    "unpack",
    "write",
]
