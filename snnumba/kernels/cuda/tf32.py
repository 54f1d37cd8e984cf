"""The CUDA kernels, the large ones of the products in dense.py by tf32 numbers: what precision="tf32" loads."""

from . import *  # noqa: F403
from . import __all__ as __all__
from .dense import tf32

linear_forward, linear_backward, linear_backward_input = tf32.forward, tf32.backward, tf32.backward_input
