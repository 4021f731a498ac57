"""Selective copying: remember the symbols and skip the noise, which takes gates, and more than one layer of them.

    python -m examples.selective_copying [--steps 3000] [--nets ...] [--out runs/selective_copying] [--seed 0] [--smoke]

In: eight symbols of 8 kinds, scattered over 248 steps of blanks, then eight steps that ask. Out: at those, the symbols
in their order (Jing et al. 2019; in Mamba, Gu & Dao 2023). Where the symbols stand is drawn anew for each sequence.

What theory says: a recurrence whose matrix is the same at every step, as the LRU's is, sees each symbol at another
distance and cannot skip what lies between. The gates of a min_gru are of x alone: a layer can skip blanks, but its
gates do not know whether a symbol is the first or the eighth. All that tells them apart is how far each has faded.
The gates of a second layer read what the first has counted (Feng et al. 2024, arXiv 2410.01201: one layer 37.7 %, two
96.8 %, three 99.5 %, at T = 4096).

A layer is a recurrence and an MLP, each residual, between an embedding and a linear layer. The gates of a min_gru start
by keeping, for up to T steps: with gates that start by keeping half, three layers learned far more slowly.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxseq
from examples import options, out_folder, positive
from examples.shared.feed_forward import mlp
from examples.shared.fresh_sequences import Batch, fit, plot, right
from jaxseq import nn

T, SYMBOLS, KINDS = 256, 8, 8
BLANK, ASK = KINDS, KINDS + 1
FEATURES, BATCH, RATE = 64, 16, 5e-3


def draw(key: jax.Array, B: int) -> Batch:
    """Returns symbols in random places among blanks, and what asks for them, in order, behind."""
    key_places, key_symbols = jax.random.split(key)
    places = jax.vmap(lambda key: jax.random.permutation(key, T - SYMBOLS)[:SYMBOLS])(jax.random.split(key_places, B))
    symbols = jax.random.randint(key_symbols, (B, SYMBOLS), 0, KINDS)
    xs = jnp.full((B, T), BLANK).at[jnp.arange(B)[:, None], jnp.sort(places, axis=1)].set(symbols)
    targets = jnp.zeros_like(xs).at[:, -SYMBOLS:].set(symbols)
    return Batch(xs.at[:, -SYMBOLS:].set(ASK), targets, jnp.broadcast_to(jnp.arange(T) >= T - SYMBOLS, (B, T)))


@jaxseq.factory
def min_gru(size: int) -> jaxseq.Cell:
    """Returns the cell with gates that at first keep what they hold for up to T steps (Tallec & Ollivier 2018)."""
    cell = jaxseq.min_gru(size)

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        keep = jaxseq.initializers.chrono(T)(jax.random.fold_in(key, 1), (size,), params.b.dtype)
        return params._replace(b=params.b.at[:size].set(-keep))

    return cell._replace(init=init)


def layers(number: int, make: Callable[[int], jaxseq.Cell]) -> jaxseq.Composite:
    parts = make(FEATURES), mlp(FEATURES)
    return jaxseq.stack(*[jaxseq.residual(part) for _ in range(number) for part in parts])


NETS = {
    "min_gru, 1 layer": layers(1, min_gru),
    "min_gru, 3 layers": layers(3, min_gru),
    "LRU, 3 layers": layers(3, jaxseq.lru),
}


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "selective_copying")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="to train; default: all")
    parser.add_argument("--steps", type=positive, default=3000, help="of the optimiser")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "selective_copying")
    started, curves = time.perf_counter(), {}
    key, *keys = jax.random.split(jax.random.key(args.seed), 3)
    test, validation = (draw(key, 500) for key in keys)
    print(f"{'symbols':22}{'validation':>10}{'test':>9}{'sequences':>11}{'seconds':>9}")
    for name in args.nets:
        begun = time.perf_counter()
        model = nn.SequenceTagger(NETS[name], FEATURES, KINDS, vocabulary=KINDS + 2, rngs=nnx.Rngs(args.seed))
        steps = 3 if args.smoke else args.steps
        model, curves[name] = fit(model, lambda key: draw(key, BATCH), key, steps=steps, rate=RATE, name=name)
        seconds = time.perf_counter() - begun
        chosen_by, found = (np.asarray(right(model, batch))[:, -SYMBOLS:] for batch in (validation, test))
        print(f"{name:22}{chosen_by.mean():10.1%}{found.mean():9.1%}{found.all(axis=1).mean():11.1%}", end="")
        print(f"{seconds:9.0f}", flush=True)
    print(f"{'guessing':22}{1 / KINDS:10.1%}{1 / KINDS:9.1%}")
    args.out.mkdir(parents=True, exist_ok=True)
    plot(curves, args.out / "loss.png", guesses=KINDS, ylabel="nats a symbol", title="Symbols copied, training")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
