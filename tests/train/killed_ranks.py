"""Processes that train together and are killed by SIGKILL, one of them or all; run by test_kills.py.

    python -m tests.train.killed_ranks FOLDER RANKS KILLS SEED

Kills at random moments, one rank or every third time all, every second time while a checkpoint is being written, and
starts again until the run ends with the bits of one that was not killed. Where one rank is killed, the others have to
end by themselves, with an error. Prints what happened as JSON.
"""

import hashlib
import json
import os
import random
import select
import signal
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxseq import data, train
from jaxseq.train import _run, metrics
from tests.train import processes

HEARTBEAT = 5
"""Seconds after which JAX's runtime notices that a rank was killed."""
ENDING = 40.0
"""Seconds in which the other ranks have to end then."""
EPOCHS, EVERY = 12, 10
XS = np.random.default_rng(0).normal(size=(80, 6))
OPTIMIZER = optax.adam(1e-2)


def loss_fn(params, batch, key, carry):
    """Noise and a carry, a running mean, are in it, since a run that goes on has to go on with them."""
    noise = 0.1 * jax.random.normal(key, params["w"].shape) if key is not None else 0.0
    values = (batch["xs"] @ (params["w"] + noise) + params["b"] - batch["xs"][:, ::-1].cumsum(1)) ** 2
    carry = 0.9 * carry + 0.1 * values.mean()
    return metrics.mean(values + 0.1 * carry), {"running": carry}, carry


def run(folder):
    """Trains from whatever is in `folder`; the first rank writes the checksum of all that came of it beside."""
    mesh = jax.make_mesh((jax.device_count(),), ("b",), axis_types=(AxisType.Auto,))
    sharding, whole = NamedSharding(mesh, P("b")), NamedSharding(mesh, P())
    loader = data.batches({"xs": XS}, 8, seed=0).part(jax.process_index(), jax.process_count())
    params = {"w": jnp.ones((6, 6)), "b": jnp.zeros(6)}
    state = train.init(params, OPTIMIZER, jax.random.key(1), carry=jnp.zeros(()))
    result = train.fit(
        train.make_step(loss_fn, OPTIMIZER),
        train.shard_state(state, sharding, smallest=16),
        loader,
        epochs=EPOCHS,
        every=30,
        validate=train.evaluator(loss_fn, loader, carry=jnp.zeros(()), sharding=sharding),
        patience=100,
        callbacks=[train.callbacks.csv(folder / "history.csv")],
        checkpoints=train.Checkpoints(folder, every=EVERY),
        sharding=sharding,
    )
    digest = hashlib.sha256()
    everything = (result.state._replace(key=None), result.params)
    for leaf in jax.tree.leaves(jax.jit(lambda tree: tree, out_shardings=whole)(everything)):
        digest.update(np.asarray(leaf).tobytes())
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    if jax.process_index() == 0:
        (folder / "end.json").write_text(json.dumps([digest.hexdigest(), rows]))


def start(count, folder, **limits):
    """Starts ranks; returns them and the pipe on which the first tells when a checkpoint is begun (b) and ended (e)."""
    reader, writer = os.pipe()
    save = _run.write

    def told(*args, **kwargs):
        if jax.process_index() == 0:
            os.write(writer, b"b")
        save(*args, **kwargs)
        if jax.process_index() == 0:
            os.write(writer, b"e")

    def do():
        os.close(reader)
        warnings.simplefilter("error")  # such as of another program than the one that was killed
        warnings.filterwarnings("ignore", "the run in .* has ended, after")
        _run.write = told
        run(folder)

    ranks = processes.start(count, do, folder, **limits)
    os.close(writer)
    return ranks, reader


def kill(ranks, reader, folder, chance, writing, everyone):
    """Kills one or all at a random moment; returns what happened: None where the run had ended before."""
    wait, told = chance.randint(1, 4), b""
    while told.count(b"b" if writing else b"e") < wait and (more := os.read(reader, 1)):
        told += more
    time.sleep(chance.uniform(0, 0.05 if writing else 0.3))
    chosen = ranks if everyone else [chance.choice(ranks)]
    for rank in chosen:
        os.kill(rank, signal.SIGKILL)
    began = time.monotonic()
    codes = processes.ended(ranks, ENDING)
    while select.select([reader], [], [], 0)[0] and (more := os.read(reader, 4096)):
        told += more
    os.close(reader)
    if all(code == 0 for code in codes):
        return None
    assert (folder / "end.json").exists() or 0 not in codes, f"a rank ended well while another was killed: {codes}"
    return {
        "one": len(chosen) < len(ranks),
        "writing": told.endswith(b"b"),
        "seconds": time.monotonic() - began,
    }


def end(count, folder):
    ranks, reader = start(count, folder)
    codes = processes.ended(ranks)
    os.close(reader)
    logs = "\n".join((folder / f"rank-{rank}.txt").read_text()[-3000:] for rank in range(count))
    assert codes == [0] * count, f"ranks ended with {codes}:\n{logs}"
    return json.loads((folder / "end.json").read_text())


def main(folder, count, kills, seed):
    chance, happened, number = random.Random(seed), [], 0
    expected = end(count, folder / "whole")
    while len(happened) < kills:
        number, in_this = number + 1, chance.randint(1, 6)
        here = folder / str(number)
        for attempt in range(min(in_this, kills - len(happened))):
            how = kill(*start(count, here, heartbeat=HEARTBEAT), here, chance, attempt % 2 == 0, len(happened) % 3 == 2)
            happened += [] if how is None else [how]
        assert end(count, here) == expected, f"run {number} ended otherwise than the one that was not killed"
    one = [how for how in happened if how["one"]]
    print(
        json.dumps(
            {
                "kills": len(happened),
                "of one": len(one),
                "while writing": sum(how["writing"] for how in happened),
                "runs": number,
                "seconds until the others had ended": max((how["seconds"] for how in one), default=0),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
