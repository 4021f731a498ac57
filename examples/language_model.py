"""Language models of characters: Shakespeare's plays, or Chinese poems of the Tang and Song.

    python -m examples.language_model [--corpus poems] [--out runs/language_model-poems] [--smoke]
    python -m examples.language_model --generate "To be, or not to be"
    python -m examples.language_model --devices 2       or --processes 2: batches split over them

In goes a text, character by character; out comes the probability of the next one, and with it new text. A GRU reads
works in streams: its carry is handed on from batch to batch, so that it remembers further back than the T steps that
gradients go (truncated backpropagation through time). On the plays, embeddings of the last two to six characters stand
beside it, so that its weights need not learn to spell.

Shakespeare is 42 works, 5 million characters, of the package `shakespeare`; whole plays are held out. The poems are
408 of the package `fortunes-zh`, verses only; a tenth of them is for validation, another for testing. Every work ends
with a token of its own, which is predicted too. Chinese characters that training has only once are all one, unknown.

Scores are bits per character of whole works, each read from its start, beside n-grams with modified Kneser-Ney
smoothing, their order chosen on the validation part. The test part is looked at once, by the model reloaded from its
file. A run that was stopped goes on where it was; one that has ended is only evaluated again.
"""

import math
import time
from pathlib import Path
from typing import NamedTuple

import jax
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder, positive
from examples.baselines.ngrams import bits_by_part
from examples.data import works
from examples.data.works import END, encode
from examples.reports.language import plot_curves, print_rows, print_samples, print_scores, print_sizes
from examples.shared import several
from examples.shared.characters import bits_by_id, make_loss, shuffled_pieces
from jaxseq import data, nn, train

ROWS = 8  # validation comes ROWS times in a run


class Setup(NamedTuple):
    """What differs between the corpora."""

    cell: jaxseq.Cell | jaxseq.Composite
    features: int  # of an embedding
    tied: bool  # the embedding is the output layer too
    ngrams: nn.NGrams | None  # embedded beside the characters
    rare: int  # characters are known that come so often in training
    batch: tuple[int, int]  # streams, and steps in each
    steps: int
    learning_rate: float
    orders: int  # of n-grams, at most
    sample: int  # characters to write


SPELLING = nn.NGrams((2, 3, 4, 5, 6), features=16)
DROPPED = jaxseq.dropout(jaxseq.gru(192), inputs=0.5, outputs=0.6)
SETUPS = {
    "shakespeare": Setup(jaxseq.gru(256), 128, False, SPELLING, 1, (32, 32), 4500, 6e-3, 9, 600),
    "poems": Setup(DROPPED, 192, True, None, 2, (16, 32), 600, 5e-3, 5, 80),
    "smoke": Setup(jaxseq.gru(24), 16, False, nn.NGrams((2,), 64, 8), 1, (8, 16), 64, 3e-2, 3, 60),
}


def make_model(setup: Setup, vocabulary: data.Vocabulary, seed: int) -> nn.LanguageModel:
    options = {"tied": setup.tied, "ngrams": setup.ngrams}
    return nn.LanguageModel(setup.cell, len(vocabulary), setup.features, **options, rngs=nnx.Rngs(seed))


def fit(setup: Setup, vocabulary: data.Vocabulary, training, validation, args, sharding=None) -> train.Fit:
    model = make_model(setup, vocabulary, args.seed)
    graph, params = nnx.split(model, nnx.Param)
    loss_fn, carry = make_loss(graph), model.initial_carry(setup.batch[:1])
    part = jax.process_index(), jax.process_count()
    batches = data.streams(shuffled_pieces(training), *setup.batch).part(*part)
    held_out, every = data.streams(validation, *setup.batch).part(*part), max(1, setup.steps // ROWS)
    rate = optax.warmup_cosine_decay_schedule(0, setup.learning_rate, setup.steps // 20, setup.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))
    settings = {"steps": setup.steps, "learning_rate": setup.learning_rate, "seed": args.seed}
    state = train.init(params, optimizer, jax.random.key(args.seed), carry=carry)
    state = state if sharding is None else several.shard(state, sharding, args)
    return train.fit(
        train.make_step(loss_fn, optimizer),
        state,
        batches,
        epochs=math.ceil(ROWS * every / len(batches)),
        every=every,
        validate=train.evaluator(loss_fn, held_out, carry=carry, sharding=sharding),
        callbacks=[print_rows(ROWS * every)],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=settings),
        sharding=sharding,
        progress=True,
    )


def load(folder: Path) -> tuple[nn.LanguageModel, data.Vocabulary, Setup]:
    """Returns the model that was saved, its vocabulary and its setup."""
    info = train.load_info(folder)
    vocabulary, setup = data.Vocabulary.from_dict(info["vocabulary"]), SETUPS[info["corpus"]]
    graph, params = nnx.split(make_model(setup, vocabulary, 0), nnx.Param)
    return nnx.merge(graph, train.load(folder, params).tree), vocabulary, setup


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "language_model-CORPUS")
    parser.add_argument("--corpus", choices=("shakespeare", "poems"), default="shakespeare", help="to learn from")
    parser.add_argument("--steps", type=positive, help="of training; a run of another number needs another --out")
    parser.add_argument("--seed", type=int, default=0, help="of params and samples")
    parser.add_argument("--generate", metavar="TEXT", help="only go on from a text, by the model saved in --out")
    several.add_options(parser)
    args = parser.parse_args(argv)
    corpus = "smoke" if args.smoke else args.corpus
    args.out = out_folder(args, f"language_model-{args.corpus}")
    if args.generate is not None:
        if not train.saved(args.out / "model"):
            parser.error(f"there is no model in {args.out}; run once without --generate")
        model, vocabulary, setup = load(args.out / "model")
        return print_samples(model, vocabulary, args.generate, setup.sample, args.seed)

    if several.launched("examples.language_model", args, argv):
        return None
    started, setup, sharding = time.perf_counter(), SETUPS[corpus], several.join(args)
    setup = setup._replace(steps=args.steps or setup.steps)
    parts = works.LOADERS[corpus]()
    vocabulary = data.Vocabulary.build(parts[0], min_count=setup.rare, specials=(END,))
    training, validation, test = documents = [[encode(vocabulary, text) for text in part] for part in parts]
    print_sizes(documents, len(vocabulary), unknown=True)

    result = fit(setup, vocabulary, training, validation, args, sharding)
    train.save(args.out / "model", result.params, {"corpus": corpus, "vocabulary": vocabulary.to_dict()})
    if not several.is_first():
        return None

    grams = bits_by_part(training, [validation, test], len(vocabulary), setup.orders)
    best = int(grams[0].mean(axis=1).argmin())
    lines = {f"n-gram, order {best + 1}": float(grams[0][best].mean())}
    plot_curves(result.history, lines, args.out / "curves.png")

    model, vocabulary, _ = load(args.out / "model")  # as it is stored
    network = [bits_by_id(model, part) for part in (validation, test)]
    print_scores(network, grams, best)
    print_samples(model, vocabulary, "", setup.sample, args.seed)
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")
    return None


if __name__ == "__main__":
    main()
