"""The net on JAX's arrays: a scan over time whose spike has its own derivative, Adam by hand, a step one function."""

import math
from functools import partial
from typing import Any

import numpy as np

from . import BETAS, CORRECT, EPSILON, HIDDEN, INCORRECT, INPUTS, LEARNING_RATE, OUTPUTS, STEPS

BETA, ALPHA = 0.9, 2.0


def net(threads: int) -> Any:
    """On so many threads."""
    from .on_cores import keep_to

    keep_to(threads)
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def spike(x: Any) -> Any:
        return (x > 0).astype(x.dtype)

    @spike.defjvp
    def spike_jvp(primals: Any, tangents: Any) -> Any:
        (x,), (dx,) = primals, tangents
        return spike(x), ALPHA / 2 / (1 + (math.pi * ALPHA / 2 * x) ** 2) * dx

    def neurons(current: Any, weight: Any, bias: Any) -> Any:
        """s (T, B, N) of current (T, B, N), or (B, N) where it is constant in time."""

        def step(state: Any, i: Any) -> Any:
            u, s = state
            u = BETA * u + (current if i is None else i) + s @ weight + bias - jax.lax.stop_gradient(s)
            s = spike(u - 1)
            return (u, s), s

        zero = jnp.zeros(current.shape[-2:])
        return jax.lax.scan(step, (zero, zero), current if current.ndim == 3 else None, length=STEPS)[1]

    def forward(p: dict[str, Any], x: Any) -> Any:
        s = neurons(x @ p["w1"] + p["b1"], p["v1"], p["c1"])
        return neurons(s @ p["w2"] + p["b2"], p["v2"], p["c2"])

    def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
        target = INCORRECT + (CORRECT - INCORRECT) * jax.nn.one_hot(y, OUTPUTS)
        return jnp.mean((forward(p, x).sum(axis=0) - target) ** 2) / STEPS

    @partial(jax.jit, donate_argnums=(0,))
    def train(state: Any, x: Any, y: Any) -> Any:
        p, m, v, t = state
        g = jax.grad(loss)(p, x, y)
        t += 1
        m = jax.tree.map(lambda m, g: m + (1 - BETAS[0]) * (g - m), m, g)
        v = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, v, g)
        rest = [1 - beta**t for beta in BETAS]

        def change(p: Any, m: Any, v: Any) -> Any:
            return p - LEARNING_RATE / rest[0] * m / (jnp.sqrt(v) / jnp.sqrt(rest[1]) + EPSILON)

        return jax.tree.map(change, p, m, v), m, v, t

    @jax.jit
    def classes(p: dict[str, Any], x: Any) -> Any:
        return forward(p, x).sum(axis=0).argmax(axis=1)

    class ByHand:
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            shapes = {"w1": (INPUTS, HIDDEN), "v1": (HIDDEN, HIDDEN), "w2": (HIDDEN, OUTPUTS), "v2": (OUTPUTS, OUTPUTS)}
            p = {name: self.drawn(rng, shape[0], shape) for name, shape in shapes.items()}
            p |= {f"b{name[1]}": self.drawn(rng, shapes[name][0], shapes[name][1:]) for name in ("w1", "w2")}
            p |= {f"c{name[1]}": self.drawn(rng, shapes[name][0], shapes[name][1:]) for name in ("v1", "v2")}
            self.state = p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0)

        @staticmethod
        def drawn(rng: np.random.Generator, fan: int, shape: tuple[int, ...]) -> Any:
            return jnp.asarray(rng.uniform(-1, 1, shape) / math.sqrt(fan), jnp.float32)

        def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
            return jnp.asarray(x), jnp.asarray(y)

        def step(self, x: Any, y: Any) -> None:
            self.state = jax.block_until_ready(train(self.state, x, y))

        def classify(self, x: Any) -> Any:
            return jax.block_until_ready(classes(self.state[0], x))

    return ByHand()
