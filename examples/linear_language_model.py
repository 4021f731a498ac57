"""Linear recurrences next to an LSTM: language models of characters, trained for as long as each other.

    python -m examples.linear_language_model [--nets ...] [--steps 7200] [--out runs/linear_language_model] [--smoke]

In goes a text, character by character; out comes the probability of the next one. The text is that of
`examples.language_model`: Shakespeare, 42 works, of which whole plays are held out. Every net is an `nn.LanguageModel`
of about as many params, without embedded n-grams, and hands its carry on from batch to batch: it has read the whole
play up to here. An LSTM has one layer; the others are a few residual blocks, as published.

What theory says: the gates of an LSTM see its carry, so that its steps wait for one another, a small product each. A
linear recurrence makes its products for all steps at once and has only the rest to do step by step, or in chunks; so it
reads more in the same time, and its layers may be several. What it gives for this is a step that sees its state.

Equal time is so many steps as the LSTM would take as long for. Before training, each net's step is timed, in turns with
the others', and the least is taken: so what else the machine does falls on all alike, and decides nothing. The LSTM's
learning rate is that of `examples.transformer_language_model`, chosen on the validation part; those of the others, and
their sizes, were set without a search. The test part is scored once, by the models reloaded from their files. A run
that was stopped goes on where it was.
"""

import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder, positive
from examples.data import works
from examples.data.works import END, encode
from examples.reports.language_models import HEAD, plot_budget
from examples.shared.characters import bits_by_id, make_loss, shuffled_pieces
from examples.shared.timed_steps import Run, least_seconds
from jaxseq import data, nn, train

ROWS = 12  # points of a curve, of the first HEAD characters of each validation play


class Net(NamedTuple):
    layer: Callable[[nnx.Rngs], Any]  # a cell, or a layer of nn
    features: int  # of an embedding
    rate: float  # Adam's highest


def blocks(number: int, make: Callable[[nnx.Rngs], Any]) -> Callable[[nnx.Rngs], nn.Blocks]:
    return lambda rngs: nn.Blocks([make(rngs) for _ in range(number)], rngs=rngs)


NETS = {
    "LSTM": Net(lambda _: jaxseq.lstm(256), 128, 1e-2),
    "Griffin": Net(blocks(2, lambda rngs: nn.GriffinBlock(128, heads=4, rngs=rngs)), 128, 4e-3),
    "Mamba-2": Net(blocks(3, lambda rngs: nn.Mamba2Block(128, heads=4, state=32, rngs=rngs)), 128, 4e-3),
}
SMOKE = {
    "LSTM": Net(lambda _: jaxseq.lstm(24), 16, 3e-2),
    "Griffin": Net(blocks(1, lambda rngs: nn.GriffinBlock(16, rngs=rngs)), 16, 3e-2),
    "Mamba-2": Net(blocks(1, lambda rngs: nn.Mamba2Block(16, heads=2, state=8, rngs=rngs)), 16, 3e-2),
}


def make_model(net: Net, size: int, seed: int) -> nn.LanguageModel:
    rngs = nnx.Rngs(seed)
    return nn.LanguageModel(net.layer(rngs), size, net.features, rngs=rngs)


def prepare(net: Net, size: int, B: int, steps: int, seed: int) -> tuple[Run, Callable]:
    """Returns the step and the start of a net's training, and its loss."""
    model = make_model(net, size, seed)
    graph, params = nnx.split(model, nnx.Param)
    rate = optax.warmup_cosine_decay_schedule(0, net.rate, steps // 20, steps)
    optimizer, loss_fn = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99)), make_loss(graph)

    def start():
        return train.init(params, optimizer, jax.random.key(seed), carry=model.initial_carry((B,)))

    return Run(train.make_step(loss_fn, optimizer), start), loss_fn


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "linear_language_model")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="to train; default: all")
    parser.add_argument("--steps", type=positive, default=7200, help="of the LSTM")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "linear_language_model")
    started = time.perf_counter()
    nets, shape, steps = (SMOKE, (8, 16), 60) if args.smoke else (NETS, (32, 32), args.steps)
    parts = works.made_up() if args.smoke else works.shakespeare()
    vocabulary = data.Vocabulary.build(parts[0], specials=(END,))
    training, validation, test = [[encode(vocabulary, text) for text in part] for part in parts]
    loader = data.streams(shuffled_pieces(training), *shape)
    heads = data.streams([document[: HEAD + 1] for document in validation], *shape)

    curves, path = {}, args.out / "seconds.json"
    if not path.exists():
        runs = {name: prepare(net, len(vocabulary), shape[0], steps, args.seed)[0] for name, net in nets.items()}
        told = itertools.count().__next__ if args.smoke else time.perf_counter  # a smoke run's steps take one second
        args.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(least_seconds(runs, next(loader.epoch(0)), 1 if args.smoke else 40, told)))
    seconds = json.loads(path.read_text())
    budget = steps * seconds["LSTM"]
    print(f"{budget:.0f} s for each net by its least time of a step; beside this, the seconds that passed")
    print(f"{'bits':12}{'validation':>10}{'test':>8}{'steps':>8}{'a step':>10}{'params':>10}{'seconds':>9}")
    for name in args.nets:
        every = max(1, round(budget / seconds[name] / ROWS))
        run, loss_fn = prepare(nets[name], len(vocabulary), shape[0], ROWS * every, args.seed)
        result = train.fit(
            run.step,
            run.start(),
            loader,
            epochs=math.ceil(ROWS * every / len(loader)),
            every=every,
            validate=train.evaluator(loss_fn, heads, carry=run.start().carry),
            callbacks=[lambda so_far, last=ROWS * every: so_far.history[-1]["step"] >= last],
            checkpoints=train.Checkpoints(args.out / name / "checkpoints", keep=1, settings=[ROWS * every, args.seed]),
            progress=True,
        )
        train.save(args.out / name / "model", result.params, {"vocabulary": vocabulary.to_dict()})
        graph, like = nnx.split(make_model(nets[name], len(vocabulary), args.seed), nnx.Param)
        model = nnx.merge(graph, train.load(args.out / name / "model", like).tree)  # as it is stored
        bits = [bits_by_id(model, part).mean() for part in (validation, test)]
        curves[name] = [(row["step"] * seconds[name], row["validation/bits"]) for row in result.history]
        size = sum(leaf.size for leaf in jax.tree.leaves(like))
        print(f"{name:12}{bits[0]:10.3f}{bits[1]:8.3f}{ROWS * every:8,}{1e3 * seconds[name]:7.1f} ms{size:10,}", end="")
        print(f"{result.history[-1]['seconds']:9.0f}", flush=True)
    plot_budget(curves, args.out / "curves.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
