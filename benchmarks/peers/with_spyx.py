"""The net in Spyx: its RLIF, whose feedback has no bias, and its train step; loss and optimizer by optax."""

from typing import Any

import numpy as np

from . import CORRECT, HIDDEN, INCORRECT, INPUTS, LEARNING_RATE, OUTPUTS, STEPS


def net(threads: int) -> Any:
    """On so many threads."""
    from .on_cores import keep_to

    keep_to(threads)
    import jax
    import jax.numpy as jnp
    import optax
    import spyx.axn
    import spyx.nn
    from flax import nnx
    from spyx.optimize import make_train_step

    rngs, spike = nnx.Rngs(0), spyx.axn.arctan()
    model = spyx.nn.Sequential(
        nnx.Linear(INPUTS, HIDDEN, rngs=rngs),
        spyx.nn.RLIF((HIDDEN,), beta=0.9, activation=spike, rngs=rngs),
        nnx.Linear(HIDDEN, OUTPUTS, rngs=rngs),
        spyx.nn.RLIF((OUTPUTS,), beta=0.9, activation=spike, rngs=rngs),
    )
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    def counts(model: Any, x: Any) -> Any:
        spk, _ = spyx.nn.run(model, jnp.broadcast_to(x, (STEPS, *x.shape)))
        return spk.sum(axis=0)

    def loss_fn(model: Any, x: Any, y: Any) -> Any:
        target = INCORRECT + (CORRECT - INCORRECT) * jax.nn.one_hot(y, OUTPUTS)
        return jnp.mean((counts(model, x) - target) ** 2) / STEPS

    train = make_train_step(loss_fn)
    classes = nnx.jit(lambda model, x: counts(model, x).argmax(axis=1))

    class Spyx:
        def arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
            return jnp.asarray(x), jnp.asarray(y)

        def step(self, x: Any, y: Any) -> None:
            jax.block_until_ready(train(model, optimizer, x, y))

        def classify(self, x: Any) -> Any:
            return jax.block_until_ready(classes(model, x))

    return Spyx()
