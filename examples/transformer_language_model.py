"""A Transformer next to an LSTM: two language models of characters, trained for as long as each other.

    python -m examples.transformer_language_model [--out runs/transformer_language_model] [--seconds 180] [--smoke]

In goes a text, character by character; out comes the probability of the next one. The text is that of
`examples.language_model`: Shakespeare, 42 works, of which whole plays are held out. Both nets are an `nn.LanguageModel`
without embedded n-grams; what differs is the layer inside, and what it knows of the text so far. The LSTM hands its
carry on from batch to batch, and has read the whole play up to here. The Transformer sees windows of T characters, and
nothing before. Where it is scored they overlap by a half: a character is predicted from T / 2 to T of those before it,
or from all where there are fewer.

Both train for the same seconds, validation and compilation not counted: the learning rate is a function of the seconds
so far, not of the steps, and at their end it is zero. A few learning rates, and of the Transformer windows, heads and
blocks, were tried on the validation part; widths were not. The test part is looked at once, by the models reloaded from
their files, beside n-grams with modified Kneser-Ney smoothing. A run that was stopped goes on where it was; one that
has ended is only evaluated again.
"""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder, positive
from examples.baselines.ngrams import bits_by_part
from examples.data import works
from examples.data.works import END, encode
from examples.reports.language import print_sizes
from examples.reports.language_models import HEAD, Row, ngram_bits, plot_curves, print_rows, print_scores
from examples.shared.characters import bits_by_id, make_loss, shuffled_pieces
from examples.shared.timed_steps import TimedStep, timed
from examples.shared.windows import bits_in_windows, streams, windows, write
from jaxseq import data, nn, train


class Net(NamedTuple):
    layer: Callable[[nnx.Rngs], jaxseq.Cell | jaxseq.Composite | nn.Layer]
    features: int  # of an embedding
    batch: tuple[int, int]  # B, T
    learning_rate: float
    carried: bool  # from batch to batch; else a batch is windows of their own
    every: int  # steps to a validation


def transformer(size: int, layers: int, heads: int, length: int) -> Callable[[nnx.Rngs], nn.Transformer]:
    given = {"layers": layers, "heads": heads, "causal": True, "max_length": length}
    return lambda rngs: nn.Transformer(size, size, positions="rotary", **given, rngs=rngs)


NETS = {
    "LSTM": Net(lambda rngs: jaxseq.lstm(256), 128, (32, 32), 1e-2, True, 400),
    "Transformer": Net(transformer(128, 2, 2, 64), 128, (8, 64), 2e-3, False, 800),
}
SMALL = {
    "LSTM": Net(lambda rngs: jaxseq.lstm(24), 16, (8, 16), 3e-2, True, 5),
    "Transformer": Net(transformer(16, 1, 2, 16), 16, (8, 16), 2e-2, False, 5),
}


def make_model(net: Net, size: int, seed: int) -> nn.LanguageModel:
    rngs = nnx.Rngs(seed)
    return nn.LanguageModel(net.layer(rngs), size, net.features, rngs=rngs)


def fit(name: str, net: Net, size: int, parts: list[list[np.ndarray]], clock: Callable, args) -> train.Fit:
    graph, params = nnx.split(make_model(net, size, args.seed), nnx.Param)
    carry = nnx.merge(graph, params).initial_carry(net.batch[:1]) if net.carried else None
    rate = optax.warmup_cosine_decay_schedule(0, net.learning_rate, args.seconds / 20, args.seconds)  # of seconds
    optimizer = timed(lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99)), rate)
    loss_fn = make_loss(graph, carried=net.carried)
    batches, read = streams(shuffled_pieces(parts[0]), net.batch), streams if net.carried else windows
    held_out = read([document[: HEAD + 1] for document in parts[1]], net.batch)
    step = TimedStep(train.make_step(loss_fn, optimizer), clock)
    make_state = lambda: train.init(params, optimizer, jax.random.key(args.seed), carry=carry)
    if not train.saved(args.out / name / "checkpoints"):
        step(make_state(), next(batches.epoch(0)))  # compiled before the clock starts
    step.start()
    settings = {"net": repr(net[1:]), "seconds": args.seconds, "seed": args.seed}
    return train.fit(
        step,
        make_state(),
        batches,
        epochs=100,
        every=net.every,
        validate=step.evaluator(train.evaluator(loss_fn, held_out, carry=carry)),
        callbacks=[print_rows(name, args.seconds)],
        checkpoints=train.Checkpoints(args.out / name / "checkpoints", keep=1, settings=settings),
        progress=True,
    )


def load(folder: Path, net: Net) -> tuple[nn.LanguageModel, data.Vocabulary]:
    """Returns the model that was saved, and its vocabulary."""
    vocabulary = data.Vocabulary.from_dict(train.load_info(folder)["vocabulary"])
    graph, params = nnx.split(make_model(net, len(vocabulary), 0), nnx.Param)
    return nnx.merge(graph, train.load(folder, params).tree), vocabulary


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "transformer_language_model")
    parser.add_argument("--seconds", type=positive, default=180, help="of training, for each net")
    parser.add_argument("--seed", type=int, default=0, help="of params and samples")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "transformer_language_model")
    started, nets = time.perf_counter(), SMALL if args.smoke else NETS
    orders, order, length = (3, 2, 15) if args.smoke else (9, 5, 500)  # of n-grams; characters to write
    args.seconds = 60 if args.smoke else args.seconds
    clock = itertools.count().__next__ if args.smoke else time.perf_counter  # of a smoke run, a step is a second
    parts = works.made_up() if args.smoke else works.shakespeare()
    vocabulary = data.Vocabulary.build(parts[0], specials=(END,))
    documents = [[encode(vocabulary, text) for text in part] for part in parts]
    print_sizes(documents, len(vocabulary), unknown=False)

    histories = {}
    for name, net in nets.items():
        result = fit(name, net, len(vocabulary), documents, clock, args)
        histories[name] = result.history
        train.save(args.out / name / "model", result.params, {"vocabulary": vocabulary.to_dict()})

    ngrams = bits_by_part(documents[0], documents[1:], len(vocabulary), orders)
    ngrams = ngram_bits(ngrams, documents[1], order)
    plot_curves(histories, ngrams, args.out / "curves.png")

    rows = {}
    for name, net in nets.items():
        model, vocabulary = load(args.out / name / "model", net)  # as it is stored
        bits_of = bits_by_id if net.carried else partial(bits_in_windows, batch=net.batch)
        bits = [float(bits_of(model, part).mean()) for part in documents[1:]]
        steps, seconds = int(histories[name][-1]["step"]), histories[name][-1]["validation/seconds"]
        params = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        window = None if net.carried else net.batch[1]
        written = write(model, encode(vocabulary, "")[:1], length, jax.random.key(args.seed), window)
        sample = "".join(vocabulary.decode(written[1:])).partition(END)[0]
        rows[name] = Row(bits, steps, steps * math.prod(net.batch), seconds, params, sample)
    print_scores(rows, ngrams)
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
