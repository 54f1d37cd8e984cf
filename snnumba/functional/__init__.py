"""Losses, each giving a value and the gradient, regularizers, and metrics; over (T, B, C) arrays, time first.

    from snnumba import functional as SF
    loss, dspk = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)(spk, labels)

Adding a regularizer to a loss makes a loss, with the sum of the values and the sum of the gradients:

    loss_fn = SF.ce_rate_loss() + SF.l1_rate_sparsity(1e-4)

Semantics of snnTorch 1.0's functional module. The formulas are in kernels/cpu/loss.py; what `reduction` and `weight`
make of them, which every loss takes by these names, is in criteria.py:

    reduction="mean" | "sum" | "none", weight=(C,) numbers >= 0, one per class

Source: Eshraghian et al. 2023, arXiv:2109.12894.
"""

from .. import quant
from .losses import (
    ce_count_loss,
    ce_max_membrane_loss,
    ce_rate_loss,
    ce_temporal_loss,
    mse_count_loss,
    mse_membrane_loss,
    mse_temporal_loss,
)
from .metrics import accuracy_membrane, accuracy_rate, accuracy_temporal
from .regularizers import l1_rate_sparsity

__all__ = [
    "accuracy_membrane",
    "accuracy_rate",
    "accuracy_temporal",
    "ce_count_loss",
    "ce_max_membrane_loss",
    "ce_rate_loss",
    "ce_temporal_loss",
    "l1_rate_sparsity",
    "mse_count_loss",
    "mse_membrane_loss",
    "mse_temporal_loss",
    "quant",
]
