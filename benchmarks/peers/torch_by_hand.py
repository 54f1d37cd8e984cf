"""The net on PyTorch's tensors, with the backward pass of snnumba/kernels/cpu/lif.py by hand: no module, no autograd.

Products with all steps at once where the equations allow, one flat vector of parameters, and Adam on it.
"""

import math

import numpy as np
import torch

from . import BETAS, CORRECT, EPSILON, HIDDEN, INCORRECT, INPUTS, LEARNING_RATE, OUTPUTS, STEPS
from .with_torch import prepare

BETA, ALPHA = 0.9, 2.0
SHAPES = (
    (HIDDEN, INPUTS),
    (HIDDEN,),
    (HIDDEN, HIDDEN),
    (HIDDEN,),
    (OUTPUTS, HIDDEN),
    (OUTPUTS,),
    (OUTPUTS, OUTPUTS),
    (OUTPUTS,),
)
SIZES = [math.prod(shape) for shape in SHAPES]
Tensor = torch.Tensor


def neurons_forward(current: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """u and s (T, B, N) of current (T or 1, B, N)."""
    mem, spk = [], []
    for t in range(STEPS):
        u = current[t if len(current) > 1 else 0] + bias
        if t > 0:
            u = torch.addmm(u, spk[-1], weight.T) + BETA * mem[-1] - spk[-1]
        mem.append(u)
        spk.append((u > 1).to(u.dtype))
    return torch.stack(mem), torch.stack(spk)


def neurons_backward(mem: Tensor, weight: Tensor, dspk: Tensor) -> Tensor:
    """d (T, B, N) of dspk (T or 1, B, N)."""
    surrogate = ALPHA / 2 / (1 + (math.pi * ALPHA / 2 * (mem - 1)) ** 2)
    d: list[Tensor] = []
    for t in range(STEPS - 1, -1, -1):
        g = dspk[t if len(dspk) > 1 else 0]
        d.append(torch.addmm(g, d[-1], weight) * surrogate[t] + BETA * d[-1] if d else g * surrogate[t])
    return torch.stack(d[::-1])


def forward(vector: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters, and u and s of both layers."""
    parameters = [part.view(shape) for part, shape in zip(vector.split(SIZES), SHAPES, strict=True)]
    w1, b1, v1, c1, w2, b2, v2, c2 = parameters
    u1, s1 = neurons_forward(torch.addmm(b1, x, w1.T)[None], v1, c1)
    u2, s2 = neurons_forward(torch.addmm(b2, s1.flatten(0, 1), w2.T).view(STEPS, -1, OUTPUTS), v2, c2)
    return parameters, [u1, s1, u2, s2]


def gradient(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """That of all parameters."""
    (_, _, v1, _, w2, _, v2, _), (u1, s1, u2, s2) = forward(vector, x)
    target = INCORRECT + (CORRECT - INCORRECT) * torch.nn.functional.one_hot(y, OUTPUTS)
    d2 = neurons_backward(u2, v2, (s2.sum(dim=0) - target)[None] * (2 / (len(y) * OUTPUTS * STEPS)))
    d1 = neurons_backward(u1, v1, (d2.flatten(0, 1) @ w2).view_as(u1))
    total, all1, all2 = d1.sum(dim=0), d1.flatten(0, 1), d2.flatten(0, 1)
    parts = [
        total.T @ x,
        total.sum(dim=0),
        d1[1:].flatten(0, 1).T @ s1[:-1].flatten(0, 1),
        all1.sum(dim=0),
        all2.T @ s1.flatten(0, 1),
        all2.sum(dim=0),
        d2[1:].flatten(0, 1).T @ s2[:-1].flatten(0, 1),
        all2.sum(dim=0),
    ]
    return torch.cat([part.flatten() for part in parts])


def classes(vector: Tensor, x: Tensor) -> Tensor:
    """Of each image."""
    return forward(vector, x)[1][3].sum(dim=0).argmax(dim=1)


class ByHand:
    def __init__(self, compiled: bool) -> None:
        self.gradient = torch.compile(gradient) if compiled else gradient
        self.classes = torch.compile(classes) if compiled else classes
        fans = [INPUTS, INPUTS, HIDDEN, HIDDEN, HIDDEN, HIDDEN, OUTPUTS, OUTPUTS]
        drawn = [(torch.rand(size) * 2 - 1) / math.sqrt(fan) for size, fan in zip(SIZES, fans, strict=True)]
        self.vector = torch.cat(drawn)
        self.m, self.v = torch.zeros_like(self.vector), torch.zeros_like(self.vector)
        self.steps = 0

    def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def step(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            g = self.gradient(self.vector, x, y)
            self.steps += 1
            rest = [1 - beta**self.steps for beta in BETAS]
            self.m.lerp_(g, 1 - BETAS[0])
            self.v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
            scale = (self.v.sqrt() / math.sqrt(rest[1])).add_(EPSILON)
            self.vector.addcdiv_(self.m, scale, value=-LEARNING_RATE / rest[0])

    def classify(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.classes(self.vector, x)


def eager(threads: int) -> ByHand:
    """Operation by operation."""
    prepare(threads)
    return ByHand(compiled=False)


def compiled(threads: int) -> ByHand:
    """Gradient and classes compiled by torch.compile, all steps in one."""
    prepare(threads)
    return ByHand(compiled=True)
