"""The golden files: snnTorch's own numbers, one HDF5 group a case."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py

GOLDEN = Path(__file__).parent / "golden"


@cache
def configs(file: str) -> dict[str, dict[str, Any]]:
    """The configuration of every case of a file."""
    with h5py.File(GOLDEN / file) as f:
        return {name: json.loads(group.attrs["config"]) for name, group in f.items()}


def cases(file: str, keep: Callable[[dict[str, Any]], bool] = lambda config: True) -> list[str]:
    """The names of the cases whose configuration is to be kept."""
    return [name for name, config in configs(file).items() if keep(config)]


def load(file: str, case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case's configuration and datasets, "grad/fc1.weight" and the like by their paths."""
    datasets: dict[str, Any] = {}
    with h5py.File(GOLDEN / file) as f:
        f[case].visititems(
            lambda name, node: datasets.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
        )
    return configs(file)[case], datasets
