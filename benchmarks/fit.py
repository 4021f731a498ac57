"""What does `train.fit` cost beside a bare loop over the same jitted step?

    python -m benchmarks.fit [--sizes 4 8 16 64] [--steps 100] [--rounds 10]

An LSTM classifier, T = 64, D = H = 64, at several batch sizes; each epoch's batches are made anew by a loader that
shuffles. `bare`: `for batch in loader.epoch(0): state, report = step(state, batch)`, waiting at the end only; `fit`:
the same with metrics added up, each loss and gradient looked at for NaN, and a history; `fit, csv, checkpoints`: with
a callback and a checkpoint at the end too. Milliseconds a step, over rounds in which the three take turns.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxseq
from benchmarks import measure
from jaxseq import data, train
from jaxseq.train import losses, metrics

T, D, H, CLASSES = 64, 64, 64, 4
CELL, OPTIMIZER = jaxseq.lstm(H), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 64], help="batch sizes")
    parser.add_argument("--steps", type=int, default=100, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    print(measure.describe_machine())
    print(f"LSTM, T = {T}, D = H = {H}, float32, {args.rounds} rounds of {args.steps} steps; ms a step\n")
    print(f"{'B':>4}  {'way':24}{'min':>9}{'median':>9}{'to bare':>9}{'median':>9}")
    for size in args.sizes:
        calls = ways(size, args.steps)
        measure.check_agreement({name: call() for name, call in calls.items()}, tolerance=0.0)
        found = measure.take_turns(calls, args.rounds)
        for name, times in found.items():
            minimum, median = (1e3 * seconds / args.steps for seconds in times)
            ratios = [mine / bare for mine, bare in zip(times, found["bare"], strict=True)]
            print(f"{size:4}  {name:24}{minimum:9.2f}{median:9.2f}" + "".join(f"{ratio:9.3f}" for ratio in ratios))


def loss_fn(params, batch, key):
    cell, w = params
    _, ys = jaxseq.unroll(CELL, cell, jnp.swapaxes(batch["xs"], 0, 1))
    logits = ys[-1] @ w
    loss = metrics.mean(losses.cross_entropy(logits, batch["labels"]))
    return loss, {"accuracy": metrics.accuracy(logits.argmax(-1), batch["labels"])}


def ways(size, steps):
    """Returns calls which each train for one epoch from the same start, and return the params."""
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(size * steps, T, D)).astype(np.float32)
    loader = data.batches({"xs": xs, "labels": rng.integers(0, CLASSES, len(xs))}, size, seed=0)
    step = train.make_step(loss_fn, OPTIMIZER)

    def start():
        params = (CELL.init(jax.random.key(0), D), jnp.zeros((H, CLASSES)))
        return train.init(params, OPTIMIZER, jax.random.key(1))

    def bare():
        state = start()
        for batch in loader.epoch(0):
            state, _ = step(state, batch)
        return state.params

    def fitted():
        return train.fit(step, start(), loader, epochs=1).params

    def saved():
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [train.callbacks.csv(Path(folder) / "history.csv")]
            checkpoints = train.Checkpoints(Path(folder) / "checkpoints")
            return train.fit(step, start(), loader, epochs=1, callbacks=callbacks, checkpoints=checkpoints).params

    return {"bare": bare, "fit": fitted, "fit, csv, checkpoints": saved}


if __name__ == "__main__":
    main()
