"""Runs of training that are killed by SIGKILL and started again; run by test_kills.py in a process of its own.

    python -m tests.train.killed FOLDER RUNS KILLS SEED

Each of RUNS runs is killed KILLS times, every second time while a checkpoint is being written, then left to end. The
first two kills of the first five runs are of two writers on one folder: the second waits for the lock of the first, and
takes over when that is killed. The runs are forks of one process that has imported everything and computed nothing.
Prints what happened as JSON.
"""

import hashlib
import json
import os
import random
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxseq
from jaxseq import data, train
from jaxseq.train import _run, losses, metrics

CELL = jaxseq.dropout(jaxseq.lstm(8), inputs=0.2, recurrent=0.2)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
EPOCHS, EVERY = 3, 3  # of 20 steps each


def loss_fn(params, batch, key, carry):
    cell, w = params
    one_hot = jax.nn.one_hot(batch["xs"].T, 16)
    carry, ys = jaxseq.unroll(CELL, cell, one_hot, carry, mask=batch["mask"].T, reset=batch["reset"].T, key=key)
    values = losses.cross_entropy(ys @ w, batch["targets"].T, mask=batch["mask"].T)
    mean = metrics.mean(values, mask=batch["mask"].T)
    return mean, {"nats": mean}, carry


def run(folder):
    """Trains from whatever is in `folder`, and writes the checksum of all that came of it beside."""
    ids = np.random.default_rng(0).integers(0, 16, 1000)
    batches = data.streams(ids[:800], 4, 10)
    params = (CELL.init(jax.random.key(0), 16), jnp.zeros((8, 16)))
    state = train.init(params, OPTIMIZER, jax.random.key(1), carry=CELL.carry(params[0], (4,)))
    result = train.fit(
        train.make_step(loss_fn, OPTIMIZER),
        state,
        batches,
        epochs=EPOCHS,
        every=15,
        validate=train.evaluator(loss_fn, data.streams(ids[800:], 4, 10), carry=CELL.carry(params[0], (4,))),
        patience=100,
        callbacks=[train.callbacks.csv(folder / "history.csv")],
        checkpoints=train.Checkpoints(folder, every=EVERY),
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((result.state._replace(key=None), result.params)):
        digest.update(np.asarray(leaf).tobytes())
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    (folder / "end.json").write_text(json.dumps([digest.hexdigest(), rows]))


def start(folder):
    """Forks a run; returns its process and the pipe on which it tells when a checkpoint is begun (b) and ended (e).

    Where another writes to the folder, it says so (w), once, and tries again until it may.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    save = _run.write

    def told(*args, **kwargs):
        os.write(writer, b"b")
        save(*args, **kwargs)
        os.write(writer, b"e")

    _run.write = told
    try:
        warnings.simplefilter("error")  # such as of another program than the one that was killed
        warnings.filterwarnings("ignore", "the run in .* has ended, after")
        waits = False
        while True:
            try:
                run(folder)
                break
            except BlockingIOError:
                waits = waits or os.write(writer, b"w")
                time.sleep(0.01)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def kill(process, reader, random, writing):
    """Kills at a random moment; returns whether that was amid a checkpoint, or None where the run ended before."""
    wait, told = random.randint(1, 3), b""
    while told.count(b"b") < wait:
        more = os.read(reader, 1)
        if not more:
            break
        told += more
    time.sleep(random.uniform(0, 0.05 if writing else 0.3))
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    while select.select([reader], [], [], 0)[0] and (more := os.read(reader, 4096)):
        told += more
    os.close(reader)
    assert os.WIFSIGNALED(status) or status == 0, "a run failed; see above"
    return told.endswith(b"b") if os.WIFSIGNALED(status) else None


def kill_two(folder, random):
    """Kills two writers on one folder one after the other; returns what happened, and whether the second waited."""
    first, reader = start(folder)
    assert os.read(reader, 1) in (b"b", b"")
    second, told = start(folder)
    waited = os.read(told, 1) == b"w"
    happened = [kill(first, reader, random, True)]
    return [*happened, kill(second, told, random, False)], waited


def end(folder):
    process, reader = start(folder)
    _, status = os.waitpid(process, 0)
    assert status == 0, "a run failed; see above"
    os.close(reader)
    return json.loads((folder / "end.json").read_text())


def main(folder, runs, kills, seed):
    warnings.filterwarnings("ignore", "os.fork")
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))  # compiled by the first run, for all
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    chance = random.Random(seed)
    (folder / "whole").mkdir(parents=True)
    expected, happened, waited = end(folder / "whole"), [], 0
    for number in range(runs):
        here = folder / str(number)
        here.mkdir()
        if number < 5:
            killed, second_waited = kill_two(here, chance)
            happened, waited = happened + killed, waited + second_waited
        for attempt in range(2 if number < 5 else 0, kills):
            happened.append(kill(*start(here), chance, attempt % 2 == 0))
        assert end(here) == expected, f"run {number} ended otherwise than the one that was not killed"
    kills = sum(how is not None for how in happened)
    print(json.dumps({"kills": kills, "while_writing": happened.count(True), "waited": waited}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
