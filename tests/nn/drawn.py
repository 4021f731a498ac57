"""Modules with random params, for which nothing has to be compiled."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

Made = TypeVar("Made")


def drawn(make: Callable[..., Made], *arguments: Any, seed=0, scale=0.5, **options: Any) -> Made:
    """The module `make(..., rngs=rngs)`, its params normal; biases too, so that none hides behind a zero."""
    graph, state = nnx.split(nnx.eval_shape(lambda: make(*arguments, rngs=nnx.Rngs(0), **options)))
    generator = np.random.default_rng(seed)
    return nnx.merge(
        graph,
        jax.tree.map(lambda leaf: jax.device_put(generator.normal(0, scale, leaf.shape).astype(leaf.dtype)), state),
    )
