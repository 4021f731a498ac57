"""Ensembles that forecast quantiles of several steps ahead: what `forecasting` and `forecasting_co2` have in common.

The nets of all ensembles are one pytree of params, whose leaves lead with an axis of SEEDS × MEMBERS. They are trained
by one vmapped step; within an ensemble, quantiles are averaged.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxseq import nn, train
from jaxseq.train import losses, metrics

SEEDS, MEMBERS = 3, 4
HEAD = nn.Quantiles((0.1, 0.25, 0.5, 0.75, 0.9))


class Part(NamedTuple):
    """M forecasts to be made. What is forecast is `(target - anchor) / scale`."""

    xs: np.ndarray  # [M, T, D], normalised
    targets: np.ndarray  # [M, H]; NaN where nothing was measured
    anchor: np.ndarray  # [M, H], what the net's forecast is added to
    naive: dict[str, np.ndarray]  # [M, H] each: forecasts that take no fitting
    days: np.ndarray  # datetime64 [M, H], of the targets


class Task(NamedTuple):
    """What is forecast, and how it is scored."""

    what: str  # with its unit
    parts: list[Part]  # training, validation, test
    leads: np.ndarray  # [H], steps ahead
    block: int  # steps over which errors hang together, for the bootstrap
    scale: float
    naive_error: float  # what MASE divides by
    info: dict[str, Any]  # saved with the model: what its inputs and outputs need

    def batch(self, part: Part) -> dict[str, np.ndarray]:
        """Returns a part as what a net reads and is to say."""
        targets = ((part.targets - part.anchor) / self.scale).astype(np.float32)
        return {"xs": np.ascontiguousarray(part.xs), "targets": targets, "mask": ~np.isnan(targets)}


class Ensembles:
    """The functions of SEEDS × MEMBERS nets, of their params."""

    def __init__(self, make: Callable[[nnx.Rngs], nn.Forecaster]):
        self.make = make
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(self, optimizer: optax.GradientTransformation, seed: int) -> train.TrainState:
        """Returns the states of all nets."""

        def init(key):
            return train.init(nnx.split(self.make(nnx.Rngs(key)), nnx.Param)[1], optimizer, key)

        return jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(seed), SEEDS * MEMBERS))

    def _predict(self, params, xs, key=None):
        return nnx.merge(self.graph, params)(xs, key=key)[:, :, 0]

    @partial(jax.jit, static_argnums=0)
    def __call__(self, members: nnx.State, xs: jax.Array) -> jax.Array:
        """Returns the quantiles `[SEEDS, M, H, Q]` that each ensemble says."""
        seeds = jax.tree.map(lambda leaf: leaf.reshape(SEEDS, MEMBERS, *leaf.shape[1:]), members)
        return jax.vmap(train.average(self._predict), (0, None))(seeds, xs)

    def loss(self, params: nnx.State, batch: dict[str, jax.Array], key: jax.Array | None):
        """The loss of one net, for training: the mean pinball loss, and the MAE of the median."""
        return _pinball(self._predict(params, batch["xs"], key), batch)

    def validation_loss(self, members: nnx.State, batch: dict[str, jax.Array], key: jax.Array | None):
        """The mean loss of the ensembles."""
        return _pinball(self(members, batch["xs"]), batch)


def _pinball(quantiles, batch):
    targets, mask = (jnp.broadcast_to(batch[name], quantiles.shape[:-1]) for name in ("targets", "mask"))
    loss = losses.quantile(quantiles, targets, HEAD.levels, mask=mask)
    return metrics.mean(loss, mask=mask), {"MAE": metrics.mae(HEAD.point(quantiles), targets, mask=mask)}
