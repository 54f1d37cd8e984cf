"""What the benchmarks hand to kernels."""

import inspect
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from entries import at_densities, entries

from snnumba.kernels import cpu


def test_entries_name_all_arguments_of_their_kernels_in_order() -> None:
    for entry in [*entries("toy"), *at_densities("toy")]:
        expected = list(inspect.signature(getattr(cpu, entry.kernel)).parameters)
        assert list(entry.arguments(cpu)) == expected, entry.name
