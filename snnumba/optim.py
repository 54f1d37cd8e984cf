"""Optimizers: one step over the net's flat vector of parameters. The rules are in kernels/rules.py."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from . import backend
from .layers.base import Array
from .network import Network


class Adam:
    """Adam, as torch computes it.

    m += (1 - beta1) (g - m),  v = beta2 v + (1 - beta2) g^2,
    p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    net : Network                     whose parameters are to be optimized
    lr : float > 0                    learning rate; may be set between steps
    betas : two floats in [0, 1)      decay of the averages of the gradient and of its square
    eps : float > 0
    weight_decay : float >= 0         times the parameter, added to its gradient

    Raises
    ------
    TypeError, ValueError
        if an argument is out of its range.

    Source: Kingma and Ba 2015, arXiv:1412.6980.

    >>> from snnumba import Network, RLeaky
    >>> net = Network(RLeaky(beta=0.9, linear_features=2), num_steps=5, seed=0)
    >>> optimizer = Adam(net, lr=1e-3)
    >>> spk, mem = net.forward(np.ones((1, 2), np.float32))
    >>> net.backward(dspk=np.ones_like(spk))
    >>> optimizer.step()
    >>> optimizer.steps
    1
    """

    def __init__(
        self,
        net: Network,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Network; got {type(net).__name__}")
        for name, value, low, high in (
            ("lr", lr, 0, math.inf),
            ("eps", eps, 0, math.inf),
            ("betas[0]", betas[0], 0, 1),
            ("betas[1]", betas[1], 0, 1),
            ("weight_decay", weight_decay, 0, math.inf),
        ):
            positive = name in ("lr", "eps")
            if not low <= value < high or (positive and value == 0):
                raise ValueError(
                    f"{name} must be {'above 0' if positive else 'at least 0'} and "
                    f"{'finite' if high == math.inf else 'below 1'}; got {value!r}"
                )
        self.net = net
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.steps = 0
        self._m = np.zeros_like(net.vector)
        self._v = np.zeros_like(net.vector)

    def __repr__(self) -> str:
        return f"Adam(lr={self.lr}, betas={self.betas}, eps={self.eps}, weight_decay={self.weight_decay})"

    def step(self) -> None:
        """Change the net's parameters by its gradients."""
        self.steps += 1
        beta1, beta2 = self.betas
        scale = math.sqrt(1 - beta2**self.steps)
        number = self.net.dtype.type
        backend.load(self.net.device).adam(
            self.net.vector,
            self.net.gradient_vector,
            self._m,
            self._v,
            number(self.lr * scale / (1 - beta1**self.steps)),
            number(beta2),
            number(1 - beta1),
            number(1 - beta2),
            number(self.eps * scale),
            number(self.weight_decay),
        )

    def state_dict(self) -> dict[str, Array]:
        """Copies of the steps taken and of the two averages."""
        return {"steps": np.array(self.steps), "m": self._m.copy(), "v": self._v.copy()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over what state_dict gave.

        Raises
        ------
        KeyError, ValueError
            if a name is missing, or an array has another size or does not hold finite numbers, before anything is
            changed.
        """
        missing = {"steps", "m", "v"} - state.keys()
        if missing:
            raise KeyError(
                f"the optimizer's state lacks {min(missing)}; it has {', '.join(sorted(state)) or 'nothing'}"
            )
        arrays = {name: np.asarray(state[name]) for name in ("steps", "m", "v")}
        for name in ("m", "v"):
            if arrays[name].shape != self._m.shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} must hold {self._m.shape} finite numbers; got {arrays[name].shape}")
        steps = arrays["steps"]
        if steps.shape != () or steps.dtype.kind not in "iu" or steps < 0:
            raise ValueError(f"steps must be a count; got {state['steps']!r}")
        self.steps = int(steps)
        self._m[:], self._v[:] = arrays["m"], arrays["v"]
