"""With NUMBA_DISABLE_JIT=1 kernels are plain Python, whose lines coverage sees: what computes too much is left out.

So are tests of allocations, threads and processes, which are about machine code.
"""

import re

import pytest
from numba.core import config

FILES = {
    "test_benchmarks",
    "test_cache",
    "test_environment",
    "test_windows",
    "test_force",
    "test_properties",
    "test_readme",
    "test_reference",
    "test_threads",
}
FILES |= {"test_training_golden"}
FIXTURES = {"splits", "threads", "three_threads"}  # 1000 digits to learn; numbers of threads
NAMES = re.compile(
    "allocate|memory_stays|bound_of_memory|memory_for|huge|learns|processes|warmup|compiling"
    "|amid_an_epoch|each_of_its|threads|mnist_is_mnist|goes_on_to_the_same"
    "|recorded_pass_has|are_the_references|is_the_references|keeps_a_share|gradient_of_its_layers|fifty_steps"
    "|has_the_bits_of_one|same_figures|same_bits_again|derivative|digits_and_says|where_that_is|full_is_told"
    r"|\[(130|65|64|18-5-70|33-70-9)-|another_process|nearest_mean"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them."""
    if not config.DISABLE_JIT:
        return
    for item in items:
        fixtures = FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if item.path.stem in FILES or fixtures or NAMES.search(item.name):
            item.add_marker(pytest.mark.skip("too much for plain Python"))
