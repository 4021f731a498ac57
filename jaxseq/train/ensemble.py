"""Ensembles: models that differ in their seed and run as one.

If the loss is convex in the prediction, the loss of the mean prediction is at most the mean of the members' losses
(Jensen's inequality). The params of M members are one pytree whose leaves have a leading axis of M. JAX makes and
trains them:

    members = jax.vmap(init)(jax.random.split(key, M))                      M inits
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)     M models that were trained separately
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

    Let `predict` return probabilities: their mean is a distribution, whereas a mean of logits favours confident
    members. All members get the same inputs. Their disagreement, from `jax.vmap(predict, in_axes=(0, None))`, measures
    the uncertainty of the model (Lakshminarayanan et al. 2017).

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
