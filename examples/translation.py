"""Translation from English to Spanish, verses of the Bible: three models under one interface, and two baselines.

    python -m examples.translation [--models GRU Transformer] [--out runs/translation] [--seed 0] [--smoke]

In goes a verse of at most 20 words, out comes its translation, both in lower case and without punctuation, as subword
units. The verses are 12,122 pairs, see `examples/data/bible.py`: 85 % to train on, 5 % to validate, 10 % to test. No
text of either side is in two parts, but parallel books have verses that differ in a word.

A bidirectional GRU reads the verse and another one writes, once from its last state alone, once with attention to all
that was read; the third model is a Transformer. Each is stored where it was best on the validation part, and read
again. The test part is translated once, greedily and by a beam of four, and scored by corpus BLEU and chrF (sacrebleu),
beside the English as it is, and the translation of the verse to train on whose English is most alike, by the cosine of
TF-IDF; what that counts is chosen on the validation part. A run that was stopped goes on where it was.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import nearest
from examples.data import bible
from examples.reports.translation import plot_alignment, plot_curves, print_examples, scores
from examples.shared import pairs
from examples.shared.units import Units
from jaxseq import data, nn, train

BATCH = 32
READ, WRITTEN = 36, 48  # units: of the longest sequences that are trained on, and that are written


class Recipe(NamedTuple):
    """The sizes of a model, and how it is trained."""

    features: int  # of an embedding
    size: int  # of the state of a GRU, or the outputs of a Transformer
    layers: int
    dropout: float
    learning_rate: float
    steps: int


RECIPES = {
    "GRU": Recipe(128, 192, 1, 0.2, 3e-3, 2800),
    "GRU with attention": Recipe(128, 192, 1, 0.2, 3e-3, 2500),
    "Transformer": Recipe(128, 128, 2, 0.2, 4e-3, 3000),
}
SMOKE = Recipe(16, 32, 1, 0.0, 1e-2, 100)


def make_model(name: str, recipe: Recipe, vocabulary: int, rngs: nnx.Rngs) -> nn.Seq2Seq:
    D, H, layers, rate = recipe[:4]
    ids: dict[str, Any] = {"source_vocabulary": vocabulary, "target_vocabulary": vocabulary, "start": 2, "end": 3}
    if name == "Transformer":
        shape: dict[str, Any] = {"layers": layers, "heads": 2, "hidden": 2 * H, "dropout": rate, "rngs": rngs}
        encoder = nn.Transformer(D, H, causal=False, **shape)
        decoder = nn.Transformer(D, H, causal=True, max_length=WRITTEN, memory_features=H, **shape)
    else:
        nets = jaxseq.bidirectional(jaxseq.gru(H)), jaxseq.gru(H)
        encoder, decoder = (jaxseq.dropout(net, inputs=rate, outputs=rate) for net in nets)
    attention = "general" if name == "GRU with attention" else None
    return nn.Seq2Seq(encoder, decoder, features=D, attention=attention, **ids, rngs=rngs)


def load(folder: Path) -> tuple[nn.Seq2Seq, Units]:
    """Returns the model that is stored in a folder, and its units."""
    info = train.load_info(folder)
    units = Units([tuple(pair) for pair in info["merges"]], data.Vocabulary.from_dict(info["vocabulary"]))
    model = make_model(info["name"], Recipe(*info["recipe"]), len(units.vocabulary), nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    return nnx.merge(graph, train.load(folder, params).tree), units


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "translation")
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES), help="to train; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "translation")
    started = time.perf_counter()
    training, validation, test = parts = (bible.made_up() if args.smoke else bible.verses()).split()
    merges, longest = (60, 12) if args.smoke else (2000, READ)
    units = Units.learn(training, merges)
    ids = [units.pairs(part, longest) for part in parts[:2]]
    counts = "{:,} verses to train on, {} to validate, {:,} to test".format(*(len(part.sources) for part in parts))
    print(f"{counts}; {len(units.vocabulary):,} units", flush=True)

    histories, facts, folders = {}, {}, {name: args.out / name.lower().replace(" ", "-") for name in args.models}
    for name in args.models:
        print(f"\n{name}")
        recipe = SMOKE if args.smoke else RECIPES[name]
        model, histories[name] = pairs.fit(
            make_model(name, recipe, len(units.vocabulary), nnx.Rngs(args.seed)),
            pairs.batches(ids[0], BATCH, multiple=longest, seed=args.seed),
            pairs.batches(ids[1], BATCH, multiple=longest),
            steps=recipe.steps,
            rows=2 if args.smoke else 10,
            learning_rate=recipe.learning_rate,
            smoothing=0.1,
            folder=folders[name] / "checkpoints",
            settings=[args.seed, args.smoke, *recipe],
            seed=args.seed,
        )
        params = nnx.split(model, nnx.Param)[1]
        info = {"merges": [list(pair) for pair in units.merges], "vocabulary": units.vocabulary.to_dict()}
        train.save(folders[name] / "model", params, {"name": name, "recipe": list(recipe), **info})
        count, seconds = sum(leaf.size for leaf in jax.tree.leaves(params)), histories[name][-1]["seconds"]
        nats = min(row["validation/loss"] for row in histories[name])
        facts[name] = f"{count:11,}{seconds:9.0f}{nats:13.3f}"
    plot_curves(histories, args.out / "curves.png")

    # The test part, once, by the models as they are stored.
    print(f"\n{'':33}{'validation,':>22}{'greedy':>18}{'beam of 4':>18}")
    print(f"{'test part':22}{'params':>11}{'seconds':>9}{'nats a unit':>13}" + f"{'BLEU':>12}{'chrF':>6}" * 2)
    models, written = {}, {}
    for name, fact in facts.items():
        models[name], units = load(folders[name] / "model")
        sources = units.encode(test.sources)
        found = [pairs.decode(models[name], sources, WRITTEN, size=size, multiple=24) for size in (1, 4)]
        greedy, written[name] = ([units.decode(row) for row in rows] for rows in found)
        both = scores(greedy, test.targets) + scores(written[name], test.targets)
        print(f"{name:22}{fact}{both}", flush=True)
    baselines = {"nearest verse": nearest.translate(training, validation, test.sources), "the English": test.sources}
    for name, texts in baselines.items():
        print(f"{name:55}{scores(texts, test.targets)}")

    print_examples(test.sources, test.targets, written)
    if "GRU with attention" in written:
        first = test.sources[0], written["GRU with attention"][0]
        plot_alignment(models["GRU with attention"], units, *first, args.out / "alignment.png")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
