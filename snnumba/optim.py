"""Optimizers over the net's flat vector of parameters, clipping of its gradients, learning-rate schedules.

    from snnumba import optim
    optimizer = optim.AdamW(net, lr=1e-3)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs)
    net.backward(dspk=dspk); optim.clip_grad_norm(net, 1.0); optimizer.step()           # each step of training
    schedule.step()                                                                     # each epoch

The numbers are torch's. Equations of optimizers and of clipping are in kernels/rules.py; here, with lr0 the learning
rate that a schedule found, and e the epochs since:

    (1) StepLR:            lr = lr0 gamma^floor(e / step_size)
    (2) CosineAnnealingLR: lr = eta_min + (lr0 - eta_min)(1 + cos(pi e / T_max)) / 2
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import backend
from .checks import is_finite
from .layers.base import Array, check_finite, check_size
from .network import Network, check_net


def _check_number(name: str, value: Any, *, positive: bool = False, below: float = math.inf) -> float:
    """A number in [0, below), or in (0, below)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value) if is_finite(value) else math.nan
    if not 0 <= number < below or (positive and number == 0):
        least, most = "above 0" if positive else "at least 0", "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be {least} and {most}; got {value!r}")
    return number


def _check_keys(name: str, state: Any, keys: set[str]) -> None:
    """Refuse a state that lacks one of the keys, or has another."""
    if not isinstance(state, Mapping):
        raise TypeError(f"the {name}'s state must be a mapping, as state_dict gives it; got {state!r}")
    if missing := keys - state.keys():
        raise KeyError(f"the {name}'s state lacks {min(missing)}; it has {', '.join(sorted(state)) or 'nothing'}")
    if unknown := state.keys() - keys:
        raise KeyError(f"the {name}'s state has {min(unknown)}, which this one does not")


class _Configured:
    """What is made from settings: the arguments after the first, kept as attributes of the same names."""

    settings: ClassVar[tuple[str, ...]]

    @property
    def config(self) -> dict[str, Any]:
        """Its name and settings as they are now, fit for JSON."""
        return {"name": type(self).__name__} | {name: getattr(self, name) for name in self.settings}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)}' for name in self.settings)})"


class Optimizer(_Configured):
    """What the optimizers share: the net, the learning rate, the steps taken and the running averages.

    net : Network
    lr : float >= 0                   may be set between steps
    steps : int                       how many were taken
    """

    averages: ClassVar[tuple[str, ...]]

    def __init__(self, net: Network, lr: float) -> None:
        self.net = check_net(net)
        self.lr = lr
        self.steps = 0
        self._kernels = backend.load(net.device)
        self._averages = {name: self._kernels.aligned(net.vector.size, net.dtype) for name in self.averages}
        self._row = np.zeros(0, net.dtype)  # _factors of the last step, and the same where the net is
        self._factors_there: Any = None

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = _check_number("lr", lr)

    def step(self) -> None:
        """Change the net's parameters by its gradients."""
        self.steps += 1
        self._follow()
        factors = self._factors(self.steps)
        if self._factors_there is None:
            self._row = np.zeros(len(factors), self.net.dtype)
            self._factors_there = self._kernels.from_host(self._row)
        self._row[:] = factors
        if self._factors_there is not self._row:
            self._kernels.write(self._row, self._factors_there)
        self._update(self._factors_there)

    def _follow(self) -> None:
        """Bring the running averages to where the net is."""
        kernels = backend.load(self.net.device)
        if kernels is not self._kernels:
            moved = {name: kernels.from_host(self._kernels.to_host(x)) for name, x in self._averages.items()}
            self._kernels, self._averages, self._factors_there = kernels, moved, None

    def _factors(self, step: int) -> tuple[float, ...]:
        """The numbers of step 1, 2, ... that the kernel takes."""
        raise NotImplementedError

    def _update(self, factors: Array) -> None:
        """One step's kernel."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """Copies of the steps taken and of the running averages."""
        return {"steps": np.array(self.steps)} | {
            name: np.array(self._kernels.to_host(x)) for name, x in self._averages.items()
        }

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over what state_dict gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            if a name is missing or not known, or an array has another size or does not hold finite numbers, before
            anything is changed.
        """
        _check_keys("optimizer", state, {"steps", *self.averages})
        arrays = {name: np.asarray(state[name]) for name in self.averages}
        for name, x in arrays.items():
            shape = self.net.vector.shape
            if x.shape != shape:
                raise ValueError(f"{name} must be {shape}; got {x.shape}")
            arrays[name] = check_finite(name, x, self.net.dtype)
            if name == "v" and (arrays[name] < 0).any():
                raise ValueError(f"v must hold averages of squares; got {arrays[name].min()!r}")
        steps = np.asarray(state["steps"])
        if steps.shape != () or steps.dtype.kind not in "iu" or steps < 0:
            raise ValueError(f"steps must be a count; got {state['steps']!r}")
        self.steps = int(steps)
        for name, x in arrays.items():
            self._kernels.write(x, self._averages[name])


class Adam(Optimizer):
    """Adam, as torch computes it.

    m += (1 - beta1) (g - m),  v = beta2 v + (1 - beta2) g^2,
    p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    net : Network                     whose parameters are to be optimized
    lr : float >= 0                   learning rate; may be set between steps
    betas : two floats in [0, 1)      decay of the averages of the gradient and of its square
    eps : float > 0
    weight_decay : float >= 0         times the parameter, added to its gradient

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

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

    settings = ("lr", "betas", "eps", "weight_decay")
    averages = ("m", "v")

    def __init__(
        self,
        net: Network,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(net, lr)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas must be two numbers; got {betas!r}")
        beta1, beta2 = (_check_number(f"betas[{k}]", beta, below=1) for k, beta in enumerate(betas))
        self.betas = beta1, beta2
        self.eps = _check_number("eps", eps, positive=True)
        self.weight_decay = _check_number("weight_decay", weight_decay)

    def _decay(self) -> tuple[float, float]:
        """What a parameter is multiplied with, and how much of it is added to its gradient."""
        return 1.0, self.weight_decay

    def _factors(self, step: int) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        scale = math.sqrt(1 - beta2**step)
        size = self.lr * scale / (1 - beta1**step)
        return size, beta2, 1 - beta1, 1 - beta2, self.eps * scale, *self._decay()

    def _update(self, factors: Array) -> None:
        net, m, v = self.net, self._averages["m"], self._averages["v"]
        self._kernels.adam(net.vector, net.gradient_vector, m, v, factors, net._bounds)


class AdamW(Adam):
    """Adam with weight decay of its own, as torch computes it: p *= 1 - lr weight_decay, then Adam's step.

    Parameters and errors are Adam's; weight_decay is not added to the gradient, and its default is 0.01.
    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.

    >>> from snnumba import Network, RLeaky
    >>> AdamW(Network(RLeaky(beta=0.9, linear_features=2), num_steps=5))
    AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)
    """

    def __init__(
        self,
        net: Network,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(net, lr, betas, eps, weight_decay)

    def _decay(self) -> tuple[float, float]:
        return 1 - self.lr * self.weight_decay, 0.0


class SGD(Optimizer):
    """Gradient descent with momentum, as torch computes it.

    b = momentum b + g,  p -= lr b; with nesterov p -= lr (g + momentum b)

    Parameters
    ----------
    net : Network                     whose parameters are to be optimized
    lr : float >= 0                   learning rate; may be set between steps
    momentum : float >= 0             decay of the running sum b of gradients
    weight_decay : float >= 0         times the parameter, added to its gradient
    nesterov : bool                   look one step ahead

    Raises
    ------
    TypeError, ValueError
        if an argument is not such, or nesterov is asked for without momentum.

    Source: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html.

    >>> from snnumba import Network, RLeaky
    >>> net = Network(RLeaky(beta=0.9, linear_features=2), num_steps=5)
    >>> net.vector[:], net.gradient_vector[:] = 1, 2
    >>> SGD(net, lr=0.25).step()
    >>> net.parameters["0.recurrent.bias"]
    array([0.5, 0.5], dtype=float32)
    """

    settings = ("lr", "momentum", "weight_decay", "nesterov")
    averages = ("b",)

    def __init__(
        self,
        net: Network,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(net, lr)
        self.momentum = _check_number("momentum", momentum)
        self.weight_decay = _check_number("weight_decay", weight_decay)
        if not isinstance(nesterov, bool):
            raise TypeError(f"nesterov must be True or False; got {nesterov!r}")
        if nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0; got 0")
        self.nesterov = nesterov

    def _factors(self, step: int) -> tuple[float, ...]:
        return self.lr, self.momentum, self.weight_decay

    def _update(self, factors: Array) -> None:
        net = self.net
        self._kernels.sgd(net.vector, net.gradient_vector, self._averages["b"], factors, net._bounds, self.nesterov)


def clip_grad_norm(net: Network, max_norm: float) -> float:
    """Scale all gradients of a net down to a norm, eq. (e), between net.backward and optimizer.step.

    Parameters
    ----------
    net : Network
    max_norm : float >= 0             infinity: only measure

    Returns
    -------
    |g|, the 2-norm of all gradients together as it was before, summed in float64. As with torch, a NaN among them
        makes all of them NaN, and an infinity NaN of itself and zeros of the others.

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    Source: Pascanu et al. 2013, arXiv:1211.5063.

    >>> from snnumba import Network, RLeaky
    >>> net = Network(RLeaky(beta=0.9, linear_features=1), num_steps=5)
    >>> net.gradients["0.recurrent.weight"][...], net.gradients["0.recurrent.bias"][...] = 3, 4
    >>> clip_grad_norm(net, 1.0)
    5.0
    >>> net.gradients["0.recurrent.bias"]
    array([0.79999983], dtype=float32)
    """
    if not (isinstance(max_norm, float | np.floating) and max_norm == math.inf):
        max_norm = _check_number("max_norm", max_norm)
    kernels = check_net(net)._kernels
    norm = net._work.empty("norm", (1,), np.float64)
    kernels.clip_norm(net.gradient_vector, max_norm, norm)
    return float(kernels.to_host(norm)[0])


def clip_grad_value(net: Network, value: float) -> None:
    """Bring each gradient of a net into [-value, value], between net.backward and optimizer.step.

    Parameters
    ----------
    net : Network
    value : float >= 0

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    >>> from snnumba import Network, RLeaky
    >>> net = Network(RLeaky(beta=0.9, linear_features=1), num_steps=5)
    >>> net.gradients["0.recurrent.bias"][...] = -3
    >>> clip_grad_value(net, 0.5)
    >>> net.gradients["0.recurrent.bias"]
    array([-0.5], dtype=float32)
    """
    limit = min(_check_number("value", value), float(np.finfo(check_net(net).dtype).max))
    backend.load(net.device).clip(net.gradient_vector, net.dtype.type(limit))


class Schedule(_Configured):
    """What the schedules share: the optimizer whose lr they set, the lr they found, and the epochs since.

    optimizer : Optimizer
    base_lr : float                   lr0, the optimizer's when the schedule was made
    epochs : int                      how often step was called
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be Adam, AdamW or SGD; got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.epochs = 0

    def _lr(self) -> float:
        """The learning rate after `epochs` epochs."""
        raise NotImplementedError

    def step(self) -> None:
        """End an epoch: set the optimizer's lr, whatever it was set to by hand."""
        self.epochs += 1
        self.optimizer.lr = self._lr()

    def state_dict(self) -> dict[str, float]:
        """The epochs so far and the lr it began with, fit for JSON."""
        return {"epochs": self.epochs, "base_lr": self.base_lr}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what state_dict gave, and set the optimizer's lr to what it was then.

        Raises
        ------
        KeyError, TypeError, ValueError
            if a name is missing or not known, or a value is not such, before anything is changed.
        """
        _check_keys("schedule", state, {"epochs", "base_lr"})
        epochs, base_lr = state["epochs"], _check_number("base_lr", state["base_lr"])
        if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
            raise ValueError(f"epochs must be a count; got {epochs!r}")
        self.epochs, self.base_lr = int(epochs), base_lr
        self.optimizer.lr = self._lr()


class StepLR(Schedule):
    """Multiply the learning rate by gamma each step_size epochs, eq. (1).

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int > 0               epochs
    gamma : float >= 0

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    >>> from snnumba import Network, RLeaky
    >>> optimizer = SGD(Network(RLeaky(beta=0.9, linear_features=2), num_steps=5), lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for epoch in range(4):
    ...     schedule.step()
    >>> optimizer.lr
    0.25
    """

    settings = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = check_size("step_size", step_size)
        self.gamma = _check_number("gamma", gamma)

    def _lr(self) -> float:
        return self.base_lr * self.gamma ** (self.epochs // self.step_size)


class CosineAnnealingLR(Schedule):
    """Let the learning rate fall to eta_min along half a cosine of T_max epochs, eq. (2), and rise again after it.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int > 0                   epochs
    eta_min : float >= 0              the least learning rate

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983.

    >>> from snnumba import Network, RLeaky
    >>> optimizer = SGD(Network(RLeaky(beta=0.9, linear_features=2), num_steps=5), lr=1.0)
    >>> schedule = CosineAnnealingLR(optimizer, T_max=4)
    >>> for epoch in range(4):
    ...     schedule.step()
    >>> optimizer.lr
    0.0
    """

    settings = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max = check_size("T_max", T_max)
        self.eta_min = _check_number("eta_min", eta_min)

    def _lr(self) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * self.epochs / self.T_max)) / 2
