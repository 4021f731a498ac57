"""Counting in circles: which recurrences track a state, and which cannot, however long they are trained?

    python -m examples.state_tracking [--out runs/state_tracking] [--seed 0] [--smoke]

parity     Random bits; at each step, the parity of the bits so far.
addition   A sum written out, 3 + 0 + 4 + …, a character a step; at each +, the sum so far modulo 5.

A state like this goes round and never settles, and a linear recurrence can only follow it by a transition matrix that
does so too. What theory says (Merrill, Petty & Sabharwal 2024; Grazzi et al. 2024, arXiv 2411.12537):

* a diagonal recurrence with a in (0, 1) cannot count, not even to two: its state only fades;
* with a in (-1, 1) it can do parity, as a factor of -1 turns the sign at each 1; but no real factors count to five;
* DeltaNet multiplies by I - β k kᵀ. With β in (0, 2) this can be a reflection, and two reflections, of a digit and of
  its +, are a rotation, which counts to any number; with β in (0, 1) there is none;
* the gates of an sLSTM see its state: it can do both, one step after the other.

Every net is one layer, trained on 40 steps and asked at steps 41 to 256: who has found the rule has it right there too.
The rate, the same for all, was chosen once; there was nothing else to tune.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.reports.lengths import plot
from examples.shared.fresh_sequences import Batch, fit, right
from jaxseq import kernels, nn, recurrences

T, LONG = 40, 256  # steps, to train on and to test
MODULUS, PLUS = 5, 5
SIZE, RATE = 32, 1e-2


class Task(NamedTuple):
    draw: Callable[[jax.Array, int, int], Batch]  # (key, B, T)
    vocabulary: int
    tags: int
    steps: int  # of the optimiser


class DiagonalParams(NamedTuple):
    w: jax.Array  # [D, 2H]
    b: jax.Array  # [2H]


@jaxseq.factory
def diagonal(size: int, *, negative: bool) -> jaxseq.Cell:
    """Returns the cell h' = a ⊙ h + b, where a and b depend on x alone: a in (0, 1), if `negative` in (-1, 1)."""
    gate = jnp.tanh if negative else jax.nn.sigmoid

    def init(key, in_size, dtype=None):
        w = jaxseq.initializers.glorot_uniform()(key, (in_size, 2 * size), dtype)
        return DiagonalParams(w, jnp.zeros_like(w[0]))

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.b.dtype)

    def project(params, xs):
        return xs @ params.w + params.b

    def element(params, us):
        a, b = jnp.split(us, 2, axis=-1)
        return recurrences.Diagonal(gate(a), b)

    return recurrences.linear_cell(size, init, carry, project, element)


def delta_net(*, negative: bool) -> jaxseq.Cell:
    return jaxseq.gated_delta_net(SIZE, heads=4, key_size=8, gated=False, negative=negative)


def parity(key: jax.Array, B: int, T: int) -> Batch:
    bits = jax.random.randint(key, (B, T), 0, 2)
    return Batch(bits, jnp.cumsum(bits, axis=1) % 2, jnp.ones((B, T), bool))


def addition(key: jax.Array, B: int, T: int) -> Batch:
    digits = jax.random.randint(key, (B, T // 2), 0, MODULUS)
    xs = jnp.stack([digits, jnp.full_like(digits, PLUS)], axis=-1).reshape(B, T)
    sums = jnp.repeat(jnp.cumsum(digits, axis=1) % MODULUS, 2, axis=1)
    return Batch(xs, sums, xs == PLUS)


TASKS = {"parity": Task(parity, 2, 2, 1000), "addition": Task(addition, MODULUS + 1, MODULUS, 2000)}
NETS = {
    "diagonal, a in (0, 1)": diagonal(SIZE, negative=False),
    "diagonal, a in (-1, 1)": diagonal(SIZE, negative=True),
    "DeltaNet, β in (0, 1)": delta_net(negative=False),
    "DeltaNet, β in (0, 2)": delta_net(negative=True),
    "sLSTM": jaxseq.slstm(SIZE),
}
SMOKE = {"parity": Task(parity, 2, 2, 400)}, dict(list(NETS.items())[:2])


def train(task: Task, name: str, seed: int) -> nn.SequenceTagger:
    """Returns the model of the net `name`, trained; at 40 steps a loop over them is the fastest kernel for all."""
    ids = {"vocabulary": task.vocabulary, "kernel": kernels.bptt, "rngs": nnx.Rngs(seed)}
    model = nn.SequenceTagger(NETS[name], SIZE, task.tags, **ids)
    key = jax.random.key(seed)
    return fit(model, lambda key: task.draw(key, 64, T), key, steps=task.steps, rate=RATE, name=name)[0]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "state_tracking")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "state_tracking")
    (tasks, nets), started, curves = SMOKE if args.smoke else (TASKS, NETS), time.perf_counter(), {}
    print(f"{'accuracy':34}{f'steps 1-{T}':>12}{f'{T + 1}-{LONG}':>12}{'guessing':>10}{'seconds':>9}")
    for title, task in tasks.items():
        test, curves[title] = task.draw(jax.random.key(args.seed + 1000), 1000, LONG), {}
        asked = np.asarray(test.asked[0])
        for name in nets:
            begun = time.perf_counter()
            model = train(task, name, args.seed)
            values = np.where(asked, np.asarray(right(model, test)).mean(axis=0), np.nan)
            curves[title][name] = values
            seen, beyond = np.nanmean(values[:T]), np.nanmean(values[T:])
            seconds = time.perf_counter() - begun
            print(f"{title:10}{name:24}{seen:12.1%}{beyond:12.1%}{1 / task.tags:10.0%}{seconds:9.0f}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    plot(curves, T, args.out / "accuracy.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
