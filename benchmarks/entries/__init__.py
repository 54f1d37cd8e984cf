"""The kernels to measure, each with arguments for several sizes, the bytes it must move and the operations it must do.

Bytes: each array once, those that are changed in place twice, what is only there to work in not at all. Operations as
in ceilings.py: an input or a spike that is 0 asks for none; a division or a square root is counted as one, and an
exponential or a tangent as what a polynomial for float32 takes. So a floor is one for any machine, and a kernel full of
divisions cannot come near it. T steps, B samples, N neurons or numbers of a sample; I inputs, O outputs.
"""

from collections.abc import Iterator
from typing import Any

from .entry import DENSITY, RATE, Entry
from .layers import conv, dropout, linear, pool, unpack
from .neurons import lif, lstm
from .training import adam, gather, losses

TUTORIAL = 118_288  # parameters of the tutorial net, each array up to a multiple of 16
Sizes = dict[str, list[tuple[Any, ...]]]
QUICK: Sizes = {
    "neurons": [(10, 128, 128), (100, 128, 1024)],  # T, B, N
    "fed back": [(500, 10, 512)],
    "images": [(10, 32, (16, 14, 14))],  # T, B, channels x pixels
    "floats": [(1, 128, 784, 128)],  # T, B, I, O
    "bits": [(10, 128, 128, 10), (100, 128, 1024, 1024)],
    "cells": [(10, 128, 128), (25, 128, 512)],
    "conv floats": [(1, 64, (1, 28, 28), 16, 5)],
    "conv bits": [(6, 64, (16, 14, 14), 32, 3)],
    "pool": [(6, 64, (16, 28, 28))],
    "dropout": [(10, 128, 1024)],
    "losses": [(10, 128, 10)],  # T, B, classes
    "gather": [(128, 784)],
    "adam": [(TUTORIAL,), (4_194_304,)],
    "unpack": [(10, 128, 10), (100, 128, 1024)],
}
MORE: Sizes = {
    "neurons": [(10, 1, 10), (10, 128, 10), (10, 1, 4096), (10, 4096, 128), (10, 128, 4096), (500, 128, 128)],
    "fed back": [(100, 10, 128)],
    "images": [(10, 256, (32, 14, 14)), (100, 32, (16, 14, 14))],
    "floats": [(1, 1, 784, 128), (1, 4096, 784, 128), (1, 1024, 784, 2048), (10, 128, 784, 128)],
    "bits": [(10, 128, 128, 128), (10, 1, 128, 10), (10, 4096, 128, 128), (10, 128, 4096, 4096)],
    "cells": [(10, 1, 16), (100, 128, 128), (10, 1024, 256)],
    "conv floats": [(1, 1024, (1, 28, 28), 16, 5)],
    "conv bits": [(6, 512, (16, 14, 14), 32, 3)],
    "pool": [(6, 512, (16, 14, 14))],
    "dropout": [(10, 128, 128), (100, 128, 1024)],
    "losses": [(100, 4096, 10)],
    "gather": [(4096, 784)],
    "adam": [(1024,)],
    "unpack": [(10, 4096, 128)],
}
TOY: Sizes = {
    "neurons": [(2, 2, 5)],
    "fed back": [],
    "images": [(2, 1, (1, 3, 3))],
    "floats": [(1, 2, 5, 3)],
    "bits": [(2, 2, 5, 3)],
    "cells": [(2, 1, 3)],
    "conv floats": [(1, 1, (1, 3, 3), 2, 3)],
    "conv bits": [(1, 1, (1, 3, 3), 2, 3)],
    "pool": [(1, 1, (1, 4, 4))],
    "dropout": [(2, 1, 5)],
    "losses": [(2, 2, 3)],
    "gather": [(2, 4)],
    "adam": [(8,)],
    "unpack": [(2, 2, 5)],
}
SIZES = {"toy": TOY, "quick": QUICK, "all": {kind: QUICK[kind] + MORE[kind] for kind in QUICK}}


def entries(which: str) -> Iterator[Entry]:
    """Every kernel at the sizes of SIZES that are named so."""
    sizes = SIZES[which]
    for feedback in ("none", "one-to-one", "linear"):
        for size in sizes["neurons"] + (sizes["fed back"] if feedback == "linear" else []):
            yield from lif(feedback, size[0], size[1], (size[2],))
    for size in sizes["images"]:
        yield from lif("conv2d", *size)
    for size in sizes["cells"]:
        yield from lstm(*size)
    for size in sizes["floats"]:
        yield from linear(False, *size, DENSITY)
    for size in sizes["bits"]:
        yield from linear(True, *size, RATE)
    for kind, bits in (("conv floats", False), ("conv bits", True)):
        for size in sizes[kind]:
            yield from conv(bits, *size)
    makers = {"pool": pool, "dropout": dropout, "losses": losses, "gather": gather, "adam": adam, "unpack": unpack}
    for kind, maker in makers.items():
        for size in sizes[kind]:
            yield from maker(*size)


def at_densities(which: str) -> Iterator[Entry]:
    """The kernels whose work depends on how many inputs or spikes there are, for few of them and for many."""
    sizes = SIZES[which]
    for share in (0.02, 0.05, 0.5, 1.0):
        for bits, (size, *_) in ((False, sizes["floats"]), (True, reversed(sizes["bits"][:3]))):
            yield from (entry for entry in linear(bits, *size, share) if entry.kernel != "linear_backward_input")
    for drive in (0.1, 0.4):
        yield from lif("linear", *sizes["neurons"][0][:2], sizes["neurons"][0][2:], drive=drive)
