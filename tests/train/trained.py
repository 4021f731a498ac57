"""Processes that train together; run by test_processes.py.

    python -m tests.train.trained COUNT FOLDER WHAT

Forks COUNT ranks, each of which runs `WHAT` and writes to `FOLDER/RANK.json` what came of it, by name.
"""

import contextlib
import errno
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxseq
from jaxseq import data, train
from jaxseq.train import _lock, _write, losses, metrics
from tests.train import processes

SAID = {}
CELL = jaxseq.dropout(jaxseq.lstm(8), inputs=0.2, recurrent=0.2)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
IDS = np.random.default_rng(0).integers(0, 16, 1000)


def loss_fn(params, batch, key, carry):
    cell, w = params
    one_hot = jax.nn.one_hot(batch["xs"].T, 16)
    carry, ys = jaxseq.unroll(CELL, cell, one_hot, carry, mask=batch["mask"].T, reset=batch["reset"].T, key=key)
    values = losses.cross_entropy(ys @ w, batch["targets"].T, mask=batch["mask"].T)
    mean = metrics.mean(values, mask=batch["mask"].T)
    return mean, {"nats": mean}, carry


STEP = train.make_step(loss_fn, OPTIMIZER)


def start(seed=0):
    params = (CELL.init(jax.random.key(seed), 16), jnp.zeros((8, 16)))
    return train.init(params, OPTIMIZER, jax.random.key(1), carry=CELL.carry(params[0], (8,)))


def fit(sharding, *, seed=0, parts=1, part=0, split=False, epochs=2, callbacks=(), checkpoints=None, progress=True):
    """Trains a language model; on one device where `sharding` is None."""
    loader, held_out = (data.streams(ids, 8, 10).part(part, parts) for ids in (IDS[:800], IDS[800:]))
    state = start(seed)
    return train.fit(
        STEP,
        train.shard_state(state, sharding, smallest=64) if split else state,
        loader,
        epochs=epochs,
        every=4,
        validate=train.evaluator(loss_fn, held_out, carry=start().carry, sharding=sharding),
        callbacks=callbacks,
        checkpoints=checkpoints,
        sharding=sharding,
        progress=progress,
    )


def told(result):
    """The numbers of a run, as JSON holds them: of the history, and sums over the params."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    return {"rows": rows, "sums": sums(result.params)}


@jax.jit
def _sums(tree):
    return [jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]


def sums(params):
    """The sum of the sizes of each array's numbers."""
    return [float(np.asarray(leaf)) for leaf in _sums(params)]


def say(name, value):
    SAID[name] = value


def sharding_of(axis_type):
    return NamedSharding(jax.make_mesh((jax.device_count(),), ("b",), axis_types=(axis_type,)), P("b"))


def numbers(folder):
    """On auto and explicit axes, of whole batches and of parts, the state whole and split."""
    auto, explicit = sharding_of(AxisType.Auto), sharding_of(AxisType.Explicit)
    part: dict[str, Any] = {"parts": jax.process_count(), "part": jax.process_index()}
    say("auto, parts, split", told(fit(auto, split=True, **part)))
    say("explicit, parts", told(fit(explicit, **part)))
    if jax.process_count() == 2:  # four would take long
        say("auto", told(fit(auto)))
        say("explicit, split", told(fit(explicit, split=True)))
        say("alone", told(fit(NamedSharding(jax.sharding.Mesh(jax.local_devices(), "b"), P("b")))))
    some = NamedSharding(jax.sharding.Mesh(jax.devices()[:4], "b"), P("b"))
    say("some", error_of(lambda: fit(some)) if jax.process_count() == 4 else None)
    say("validated", train.evaluator(loss_fn, data.streams(IDS[800:], 8, 10), carry=start().carry)(fit(auto).params))
    spoilt = [{"x": np.array([[1.0] * 8, [np.inf] * 8][number])} for number in (0, 1, 0)]
    linear = lambda params, batch, key: (jnp.mean(batch["x"] * params), {})
    state = train.init(jnp.ones(()), OPTIMIZER, jax.random.key(0))
    say("inf", error_of(lambda: train.fit(train.make_step(linear, OPTIMIZER), state, spoilt, epochs=1, sharding=auto)))
    mesh = jax.make_mesh((jax.process_count(), 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    parts = data.prefetch([{"x": np.zeros((4, 8))}], sharding=NamedSharding(mesh, P("b")), parts=2)
    say("parts", error_of(lambda: next(parts)))


def together(folder):
    """One run with checkpoints, what is wrong in one process alone, and what becomes of the run then."""
    sharding, rank = sharding_of(AxisType.Auto), jax.process_index()
    part: dict[str, Any] = {"parts": jax.process_count(), "part": rank, "split": True}
    stops = lambda so_far: rank == 1  # the first one decides, and does not stop
    callbacks = [train.callbacks.csv(folder / f"history-{rank}.csv"), train.callbacks.printing(), stops]
    checkpoints = train.Checkpoints(folder / "run", every=3)
    result = fit(sharding, **part, callbacks=callbacks, checkpoints=checkpoints)
    say("bytes", [train.bytes_per_device(each) for each in (result.state, start())])
    say("run", told(result))
    train.save(folder / "model", result.params, {"by": "all"})
    loaded = train.load(folder / "model", result.params)
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), loaded.tree, result.params)
    say("loaded", [loaded.info, jax.tree.all(same)])
    own, at = {"rank": np.full(3, rank), "one": jnp.ones(2)}, folder / f"own-{rank}"
    say("own", error_of(lambda: train.save(at, own)) or train.load(at, own).tree["rank"].tolist())

    write = _write._write_arrays

    def on_a_full_disk(*arguments):
        write(*arguments)
        if rank == 1:
            raise OSError(errno.ENOSPC, "full")

    _write._write_arrays = on_a_full_disk
    say("full disk", error_of(lambda: fit(sharding, **part, epochs=3, checkpoints=checkpoints)))
    _write._write_arrays = write
    say("goes on", told(fit(sharding, **part, epochs=3, checkpoints=checkpoints)))

    def fails(so_far):
        if rank == 1:
            raise RuntimeError("of my own")

    say("callback", error_of(lambda: fit(sharding, **part, callbacks=[fails])))
    say("seeds", error_of(lambda: fit(sharding, seed=rank)))
    (folder / "locked").mkdir(exist_ok=True)
    with _lock.writing(folder / "locked") if rank == 1 else contextlib.nullcontext():
        multihost_utils.sync_global_devices("locked")
        say("locked", error_of(lambda: fit(sharding, checkpoints=train.Checkpoints(folder / "locked"))))


def error_of(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error), getattr(error, "__notes__", [])]
    return None


def run(folder, what):
    what(folder)
    (folder / f"{jax.process_index()}.json").write_text(json.dumps(SAID))


def main(count, folder, what):
    ranks = processes.start(int(count), lambda: run(Path(folder), WHAT[what]), Path(folder))
    codes = processes.ended(ranks, 500)
    assert codes == [0] * len(ranks), [(Path(folder) / f"rank-{rank}.txt").read_text() for rank in range(len(ranks))]


WHAT = {"numbers": numbers, "together": together}

if __name__ == "__main__":
    main(*sys.argv[1:])
