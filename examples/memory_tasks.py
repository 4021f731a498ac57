"""Three tasks that ask for memory, on data made up as training goes: which cell carries what, and how far?

    python -m examples.memory_tasks [--task adding copy parity] [--cells lstm gru rnn] [--T 100] [--steps 5000]

adding   (Hochreiter & Schmidhuber 1997, in the form of Arjovsky, Shah & Bengio 2016) A step is a value ~ U(0, 1) and a
         marker, which is 1 at one step of each half. After T steps: the sum of the two marked values. Squared error;
         who always says 1 has 1/6. Accuracy: the error is below 0.08, which is 0.04 in the units of 1997.
copy     (Arjovsky, Shah & Bengio 2016) Ten symbols of 8 kinds, T - 1 blanks, a delimiter, ten more blanks, in which the
         ten symbols are asked for, in order. Cross-entropy of these ten steps; without a memory it is ln 8 (over all
         T + 20 steps, as in the paper, 10 ln 8 / (T + 20)).
parity   (Bengio, Simard & Frasconi 1994) Random bits; at each step, the parity of the bits since the last reset. Pieces
         of random length, geometric with mean 10, are packed in rows of T steps, and `unroll(..., reset=)` keeps them
         apart: the bits do not say where a piece starts. Binary cross-entropy; who guesses has ln 2.

LSTM and GRU start from chrono gates (Tallec & Ollivier 2018), which at first keep what they hold for up to T steps.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jaxseq
from examples import Help, positive
from examples.data.memory import KINDS, Batch, adding, copy, parity
from examples.reports.memory import plot_losses

RATES = {"lstm": 2e-2, "gru": 2e-2, "rnn": 2e-3}  # Adam's first rate; with 2e-2 the RNN hardly copies
CHUNK, BATCH = 50, 16  # optimiser steps in one call


class Task(NamedTuple):
    draw: Callable[[jax.Array, int, int], Batch]  # (key, T, B)
    loss: Callable[[jax.Array, jax.Array], jax.Array]  # outputs, targets [S, B, K] -> a loss for each, without mean
    correct: Callable[[jax.Array, jax.Array], jax.Array]  # likewise, bool
    baseline: float  # the loss of a net without memory
    unit: str  # of the loss


class Params(NamedTuple):
    cell: jaxseq.LstmParams | jaxseq.GruParams | jaxseq.RnnParams
    w: jax.Array  # [H, K]
    b: jax.Array  # [K]


TASKS = {
    "adding": Task(adding, optax.squared_error, lambda y, t: jnp.abs(y - t) < 0.08, 1 / 6, "squared"),
    "copy": Task(copy, optax.softmax_cross_entropy, lambda y, t: y.argmax(-1) == t.argmax(-1), math.log(KINDS), "nats"),
    "parity": Task(parity, optax.sigmoid_binary_cross_entropy, lambda y, t: (y > 0) == t, math.log(2), "nats"),
}


def make_cell(name: str, size: int, T: int) -> jaxseq.Cell:
    """Returns the cell; an LSTM or GRU starts with gates that keep for up to T steps."""
    gates = {} if name == "rnn" else {"forget_bias": jaxseq.initializers.chrono(max(T, 3))}
    return getattr(jaxseq, name)(size, **gates)


def init(key: jax.Array, task: Task, cell: jaxseq.Cell) -> Params:
    key_cell, key_w = jax.random.split(key)
    like = jax.eval_shape(lambda key: task.draw(key, 2, 1), key)
    w = jaxseq.initializers.glorot_uniform()(key_w, (cell.size, like.targets.shape[-1]))
    return Params(cell.init(key_cell, like.xs.shape[-1]), w, jnp.zeros(w.shape[-1]))


def predict(cell: jaxseq.Cell, params: Params, batch: Batch) -> jax.Array:
    """Returns the outputs `[S, B, K]` of the last S steps, those with targets."""
    _, ys = jaxseq.unroll(cell, params.cell, batch.xs, reset=batch.reset)
    return ys[-len(batch.targets) :] @ params.w + params.b


def train(
    task: Task, cell: jaxseq.Cell, key: jax.Array, *, T: int, steps: int, rate: float = 2e-2, name: str = ""
) -> tuple[Params, np.ndarray]:
    """Trains on a fresh batch a step; returns the params and the losses `[steps]`."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    def loss_fn(params, batch):
        return task.loss(predict(cell, params, batch), batch.targets).mean()

    def train_step(state, key):
        params, moments = state
        loss, gradients = jax.value_and_grad(loss_fn)(params, task.draw(key, T, BATCH))
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, updates), moments), loss

    train_chunk = jax.jit(partial(jax.lax.scan, train_step))
    key_init, key_data = jax.random.split(key)
    params: Any = init(key_init, task, cell)
    state, losses = (params, optimizer.init(params)), []
    keys = jax.random.split(key_data, steps)
    for start in tqdm(range(0, steps, CHUNK), desc=name, disable=None):
        state, chunk = train_chunk(state, keys[start : start + CHUNK])
        losses.append(np.asarray(chunk))
    return state[0], np.concatenate(losses)


def evaluate(
    task: Task, cell: jaxseq.Cell, params: Params, key: jax.Array, *, T: int, B: int = 1000
) -> tuple[float, float]:
    """Returns loss and accuracy on B fresh sequences."""
    batch = task.draw(key, T, B)
    outputs = jax.jit(predict, static_argnums=0)(cell, params, batch)
    return float(task.loss(outputs, batch.targets).mean()), float(task.correct(outputs, batch.targets).mean())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="to train on")
    parser.add_argument("--cells", nargs="+", choices=RATES, default=list(RATES), help="to train")
    parser.add_argument("--T", type=int, default=100, help="how long to remember, at least 2")
    parser.add_argument("--size", type=positive, default=64, help="of the cell")
    parser.add_argument("--steps", type=positive, default=5000, help="of the optimiser")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    parser.add_argument("--out", type=Path, default=Path("memory_tasks.png"), help="the picture")
    args = parser.parse_args(argv)
    if args.T < 2:
        parser.error(f"--T must be at least 2, so that each half has a step; got {args.T}")
    if args.out.suffix not in (".png", ".pdf", ".svg"):
        parser.error(f"--out must be a picture, .png, .pdf or .svg; got {args.out}")

    start = time.perf_counter()
    key_train, key_test = jax.random.split(jax.random.key(args.seed))
    curves, rows = {name: {} for name in args.task}, []
    for name in curves:
        task = TASKS[name]
        for cell_name in args.cells:
            cell = make_cell(cell_name, args.size, args.T)
            label = f"{name:8}{cell_name:6}"
            given = {"T": args.T, "steps": args.steps, "rate": RATES[cell_name], "name": label}
            params, curves[name][cell_name] = train(task, cell, key_train, **given)
            loss, accuracy = evaluate(task, cell, params, key_test, T=args.T)
            rows.append(f"{label}{loss:10.3g}{task.baseline:10.3g}{accuracy:10.1%}")
    print("task    cell        loss  baseline  accuracy", *rows, sep="\n")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    plot_losses(curves, {name: (TASKS[name].baseline, TASKS[name].unit) for name in curves}, args.out)
    print(f"{time.perf_counter() - start:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
