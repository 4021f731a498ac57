"""Learning from sequences that are made up as training goes, a fresh batch a step: the rule is learned or it is not.

A task is a function that draws a batch of ids with a target for every step, of which some are asked for. A net is an
`nn.SequenceTagger`. Steps of the optimiser run in chunks of one compiled loop, data included.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from tqdm import tqdm

from jaxseq import nn
from jaxseq.train import losses

CHUNK = 50  # steps of the optimiser in one call


class Batch(NamedTuple):
    xs: jax.Array  # ids [B, T]
    targets: jax.Array  # ids [B, T]
    asked: jax.Array  # bool [B, T]


Draw = Callable[[jax.Array], Batch]  # of a key


def fit(
    model: nn.SequenceTagger, draw: Draw, key: jax.Array, *, steps: int, rate: float, name: str = ""
) -> tuple[nn.SequenceTagger, np.ndarray]:
    """Returns the model trained by Adam, whose rate is warmed up to `rate` and annealed, and the losses `[steps]`."""
    graph, params = nnx.split(model, nnx.Param)
    schedule = optax.warmup_cosine_decay_schedule(0, rate, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def loss_fn(params, batch):
        nats = losses.cross_entropy(nnx.merge(graph, params)(batch.xs), batch.targets, mask=batch.asked)
        return jnp.sum(nats) / jnp.sum(batch.asked)

    def step(state, key):
        params, moments = state
        loss, gradients = jax.value_and_grad(loss_fn)(params, draw(key))
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, updates), moments), loss

    run = jax.jit(partial(jax.lax.scan, step))
    state, curve = (params, optimizer.init(params)), []
    keys = jax.random.split(key, steps)
    for start in tqdm(range(0, steps, CHUNK), desc=name, disable=None):
        state, losses_of_chunk = run(state, keys[start : start + CHUNK])
        curve.append(np.asarray(losses_of_chunk))
    return nnx.merge(graph, state[0]), np.concatenate(curve)


@nnx.jit
def right(model: nn.SequenceTagger, batch: Batch) -> jax.Array:
    """Returns whether the most probable target is the right one, bool `[B, T]`; False where nothing is asked for."""
    return (model(batch.xs).argmax(-1) == batch.targets) & batch.asked


def plot(curves: dict[str, np.ndarray], path: Path, *, guesses: int, ylabel: str, title: str) -> None:
    """Draws the losses of each net, `[steps]` by name, and that of guessing one of `guesses`."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, values in curves.items():
        means = np.array([part.mean() for part in np.array_split(values, min(60, len(values)))])
        axes.plot(np.linspace(0, len(values), len(means)), means, label=name)
    axes.axhline(np.log(guesses), color="0.5", linestyle="--", linewidth=1, label="no memory")
    axes.set(xlabel="step", ylabel=ylabel, title=title, ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
