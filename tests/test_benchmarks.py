"""What the benchmarks hand to kernels."""

import inspect
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from entries import at_densities, entries
from entries.reasons import REASONS, known

from snnumba.kernels import cpu


def test_entries_name_all_arguments_of_their_kernels_in_order() -> None:
    for entry in [*entries("toy"), *at_densities("toy")]:
        expected = list(inspect.signature(getattr(cpu, entry.kernel)).parameters)
        assert list(entry.arguments(cpu)) == expected, entry.name


def test_a_reason_is_known_for_every_kernel_that_may_take_more_than_twice_its_floor() -> None:
    for which in ("toy", "all"):
        for entry in [*entries(which), *at_densities(which)]:
            assert known(entry.name, entry.size), f"{entry.name} {entry.size}"


def test_every_reason_is_that_of_an_entry() -> None:
    every = [(entry.name, entry.size) for entry in [*entries("all"), *at_densities("all")]]
    used = {known(*entry) for entry in every}
    assert not [why for *_, why in REASONS if why not in used]
