"""Who can look things up? Associative recall by attention, a delta rule, and recurrences whose state is a vector.

    python -m examples.recall [--nets ...] [--rates 3e-3 1e-2] [--steps 500] [--out runs/recall] [--seed 0] [--smoke]

In: eight pairs of a key and a value, then one of the keys again and again, a symbol a step, 64 in all. Out: at each key
that is asked for, the value that stood behind it (multi-query associative recall; Arora et al. 2023, arXiv 2312.04927).
Pairs are drawn anew for each sequence, so the weights can know none of them: they have to be in the state.

What theory says: attention has all steps before it, and looks there. A recurrence has its carry alone. DeltaNet's is a
matrix, in which a key has its value as in a dictionary: writing replaces what stood there, and leaves alone what stands
at orthogonal keys. The state of a min_gru or an LRU is a vector without such places, and an LRU writes into it in the
same way whatever the symbol.

All nets stand between an embedding and a linear layer: a Transformer of two layers, a block of gated DeltaNet, or two
layers of convolution, recurrence and MLP. Rates matter much here, so each net is trained at each of some. The one with
the highest accuracy on fresh sequences is taken, and tested on others.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxseq
from examples import options, out_folder, positive
from examples.shared.feed_forward import mlp
from examples.shared.fresh_sequences import Batch, fit, plot, right
from jaxseq import kernels, nn

T, PAIRS, KEYS, VALUES = 64, 8, 16, 16
FEATURES = 64


def draw(key: jax.Array, B: int) -> Batch:
    """Returns pairs, then queries; a value's id stands behind those of the keys."""
    key_keys, key_values, key_queries = jax.random.split(key, 3)
    keys = jax.vmap(lambda key: jax.random.permutation(key, KEYS)[:PAIRS])(jax.random.split(key_keys, B))
    values = jax.random.randint(key_values, (B, PAIRS), 0, VALUES)
    queries = jax.random.randint(key_queries, (B, T - 2 * PAIRS), 0, PAIRS)
    pairs = jnp.stack([keys, KEYS + values], axis=-1).reshape(B, 2 * PAIRS)
    xs = jnp.concatenate([pairs, jnp.take_along_axis(keys, queries, axis=1)], axis=1)
    targets = jnp.concatenate([jnp.zeros_like(pairs), jnp.take_along_axis(values, queries, axis=1)], axis=1)
    return Batch(xs, targets, jnp.broadcast_to(jnp.arange(T) >= 2 * PAIRS, (B, T)))


def attention(rngs: nnx.Rngs) -> nn.Layer:
    return nn.Transformer(FEATURES, FEATURES, layers=2, heads=1, causal=True, positions="rotary", rngs=rngs)


def delta_net(rngs: nnx.Rngs) -> nn.Blocks:
    sizes: dict[str, Any] = {"heads": 1, "key_size": FEATURES // 2, "value_size": FEATURES, "hidden": FEATURES}
    block: Any = nn.GatedDeltaNetBlock(FEATURES, **sizes, kernel=kernels.chunkwise(16), rngs=rngs)
    return nn.Blocks([block], rngs=rngs)


def diagonal(cell: jaxseq.Cell) -> jaxseq.Composite:
    parts = jaxseq.causal_conv(FEATURES), cell, mlp(FEATURES)
    return jaxseq.stack(*[jaxseq.residual(part) for _ in range(2) for part in parts])


NETS: dict[str, Callable[[nnx.Rngs], Any]] = {  # a Composite, or a layer of nn
    "attention": attention,
    "gated DeltaNet": delta_net,
    "min_gru": lambda rngs: diagonal(jaxseq.min_gru(FEATURES)),
    "LRU": lambda rngs: diagonal(jaxseq.lru(FEATURES)),
}


def accuracy(model: nn.SequenceTagger, batch: Batch) -> float:
    return float(right(model, batch).sum() / batch.asked.sum())


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "recall")
    parser.add_argument("--rates", nargs="+", type=float, default=[3e-3, 1e-2], help="of the optimiser")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="to train; default: all")
    parser.add_argument("--steps", type=positive, default=500, help="of the optimiser")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "recall")
    started, curves = time.perf_counter(), {}
    key, *keys = jax.random.split(jax.random.key(args.seed), 3)
    validation, test = (draw(key, 500) for key in keys)
    rates, steps = ([1e-2], 3) if args.smoke else (args.rates, args.steps)
    print(f"{'accuracy':18}{'test':>8}{'rate':>9}    validation, by rate")
    for name in args.nets:
        found = {}
        for rate in rates:
            rngs = nnx.Rngs(args.seed)
            model = nn.SequenceTagger(NETS[name](rngs), FEATURES, VALUES, vocabulary=KEYS + VALUES, rngs=rngs)
            model, losses = fit(model, lambda key: draw(key, 64), key, steps=steps, rate=rate, name=f"{name}, {rate}")
            found[rate] = accuracy(model, validation), model, losses
        best = max(rates, key=lambda rate: found[rate][0])
        curves[name] = found[best][2]
        by_rate = "  ".join(f"{rate:g}: {found[rate][0]:.1%}" for rate in rates)
        print(f"{name:18}{accuracy(found[best][1], test):8.1%}{best:9g}    {by_rate}", flush=True)
    print(f"{'guessing':18}{1 / VALUES:8.1%}")
    args.out.mkdir(parents=True, exist_ok=True)
    plot(curves, args.out / "loss.png", guesses=VALUES, ylabel="nats a value", title="Values recalled, training")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
