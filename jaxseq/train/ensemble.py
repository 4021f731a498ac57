"""Ensembles: models that differ in their seed, run as one.

By Jensen's inequality the mean prediction has at most the mean of the members' losses, where the loss is convex in it.
The params of M members are one pytree whose leaves lead with an axis of M; JAX alone makes and trains them:

    members = jax.vmap(init)(jax.random.split(key, M))                      M inits
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)     M models that were trained apart
    gradients = jax.vmap(jax.grad(loss), in_axes=(0, None))(members, batch)
    member = jax.tree.map(lambda leaf: leaf[0], members)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import check


def average(predict: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function `(members, *inputs)` that is the mean of `predict(params, *inputs)` over the members.

    Let `predict` return probabilities: the mean of the members' is a distribution, that of their logits favours the
    confident. Members see the same inputs; their disagreement, `jax.vmap(predict, in_axes=(0, None))`, tells what
    they do not know (Lakshminarayanan et al. 2017).

    Args:
      predict: `(params, *inputs) -> pytree of arrays`.

    Raises:
      TypeError: `predict` is not a function.

    >>> members = {"logits": jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]]))}
    >>> print(average(lambda params: jax.nn.softmax(params["logits"]))(members))
    [0.7 0.3]
    """
    if not callable(predict):
        raise TypeError(f"`predict` must be a function (params, *inputs) -> probabilities; got {check.short(predict)}")

    def mean(members, *inputs):
        check.function_taking("predict", predict, 1 + len(inputs))
        outputs = jax.vmap(lambda params: predict(params, *inputs))(members)
        return jax.tree.map(lambda output: jnp.mean(output, axis=0), outputs)

    return mean
