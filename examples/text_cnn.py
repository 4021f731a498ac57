"""Sentiment by convolution: a TextCNN next to a bidirectional GRU, and the phrases by which it decides.

    python -m examples.text_cnn [--out runs/text_cnn] [--seed 0] [--smoke]

In goes a snippet of a movie review, out comes whether it is positive. Texts and parts are those of
`examples.sentiment`: 10,566 snippets, 75 % to train on, 10 % to validate, 15 % to test. Both nets embed a word in 64
numbers and are trained alike: some words of a text dropped, labels smoothed, AdamW, an early stop when the validation
loss has not improved for two epochs. What differs is how the words become one decision. The TextCNN (Kim 2014) holds
filters against all phrases of a few words and keeps the strongest match of each, wherever it stands; further apart it
knows no order. The GRU reads the whole text in both directions, and its outputs are pooled by mean and maximum.

Each net is trained with three seeds and scored alone; how many words to drop was chosen on the validation part. The
test part is looked at once, by the models that were saved and loaded, beside TF-IDF with logistic regression and the
majority class. A TextCNN's decision is a sum over phrases, so that each word's part in it can be shown: that is the
picture. A run that was stopped goes on where it was.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import tfidf
from examples.data import reviews
from examples.reports.phrases import additions, plot_phrases, print_filters
from examples.reports.sentiment import NAMES, print_scores_of_seeds, print_sizes, print_trained
from examples.shared.text_classifiers import read, score
from jaxseq import data, nn, train

SEEDS, DROPPED = 3, 0.3  # the share of a text's words that is dropped in training
EMBEDDING, BATCH = 64, 64
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2))
Make = Callable[[int, nnx.Rngs], Any]  # a net, from the size of the vocabulary


def text_cnn(filters: int, dropout: float) -> Make:
    given: dict[str, Any] = {"widths": (2, 3, 4), "filters": filters, "dropout": dropout}
    return lambda size, rngs: nn.TextCNN(EMBEDDING, 2, vocabulary=size, **given, rngs=rngs)


def bidirectional_gru(hidden: int, dropout: float) -> Make:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(hidden)), inputs=dropout)
    given: dict[str, Any] = {"pooling": "mean_max"}
    return lambda size, rngs: nn.SequenceClassifier(net, EMBEDDING, 2, vocabulary=size, **given, rngs=rngs)


NETS = {"TextCNN": text_cnn(100, 0.5), "BiGRU": bidirectional_gru(32, 0.7)}


def make_loss(graph: nnx.GraphDef) -> Callable:
    def loss_fn(params, batch, key):
        logits = read(nnx.merge(graph, params), batch, key, DROPPED)
        return score(logits, batch, smoothing=0.0 if key is None else 0.1)

    return loss_fn


def fit(
    name: str, make: Make, size: int, ids: list[list[np.ndarray]], labels: list[np.ndarray], args
) -> list[train.Fit]:
    """Trains with several seeds, each until the validation loss has not improved for two epochs."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(size, nnx.Rngs(0))))
    loss_fn, batch_size = make_loss(graph), 8 if args.smoke else BATCH
    validate = train.evaluator(loss_fn, data.bucketed(ids[1], {"labels": labels[1]}, batch_size))
    step, runs = train.make_step(loss_fn, OPTIMIZER), []
    for seed in range(args.seed, args.seed + SEEDS):
        params = nnx.split(make(size, nnx.Rngs(seed)), nnx.Param)[1]
        run = train.fit(
            step,
            train.init(params, OPTIMIZER, jax.random.key(seed)),
            data.bucketed(ids[0], {"labels": labels[0]}, batch_size, seed=seed),
            epochs=4 if args.smoke else 15,
            validate=validate,
            patience=2,
            checkpoints=train.Checkpoints(args.out / name / f"seed-{seed}", keep=1, settings=[seed, args.smoke]),
            progress=True,
        )
        print_trained(name, seed, run)
        runs.append(run)
    return runs


def load(folder: Path, make: Make) -> list[Any]:
    """Returns the models that are stored, one a seed."""
    graph, like = nnx.split(make(len(train.load_info(folder)["vocabulary"]["tokens"]), nnx.Rngs(0)), nnx.Param)
    return [nnx.merge(graph, params) for params in train.load(folder, [like] * SEEDS).tree]


@nnx.jit
def classify(model: Any, xs: Any, mask: Any) -> jax.Array:
    """Returns logits `[N, 2]` of ids `[N, T]`."""
    return model(xs, mask=mask)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "text_cnn")
    parser.add_argument("--seed", type=int, default=0, help="of the first model of each kind")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "text_cnn")
    started = time.perf_counter()
    texts = reviews.made_up(*reviews.LANGUAGES["en"].words, 300) if args.smoke else reviews.english("movie")
    training, validation, test = parts = texts.split()
    vocabulary = data.Vocabulary.build(map(data.words, training.texts))
    print_sizes(parts, len(vocabulary))
    ids = [[vocabulary.encode(data.words(text)) for text in part.texts] for part in parts[:2]]
    runs = {
        name: fit(name, make, len(vocabulary), ids, [training.labels, validation.labels], args)
        for name, make in NETS.items()
    }
    for name, fits in runs.items():
        params = [run.params for run in fits]
        train.save(args.out / name / "model", params, {"vocabulary": vocabulary.to_dict()})
        train.curves.plot(fits[0].history, args.out / name / "curves.png", names=("loss", "accuracy"))

    # The test part, once, by the models as they are stored.
    words = [data.words(text) for text in test.texts]
    xs, mask = data.pad([vocabulary.encode(tokens) for tokens in words], multiple=16)
    models = {name: load(args.out / name / "model", make) for name, make in NETS.items()}
    nets = {}
    for name, members in models.items():
        predicted = [np.asarray(classify(model, xs, mask).argmax(-1)) for model in members]
        seconds = float(np.mean([run.history[-1]["seconds"] for run in runs[name]]))
        nets[name] = predicted, seconds, sum(leaf.size for leaf in jax.tree.leaves(runs[name][0].params))
    baselines = {
        "TF-IDF + logistic regression": tfidf.predict(tfidf.WORDS_AND_PAIRS, training, validation, test.texts),
        "majority class": np.full(len(test.labels), tfidf.majority(training)),
    }
    print_scores_of_seeds(test.labels, nets, baselines)

    # What the first TextCNN decides by: its surest decisions, and those that were most wrong.
    model = models["TextCNN"][0]
    print_filters(model, words, xs, mask, 5)
    positive = np.asarray(jax.nn.softmax(classify(model, xs, mask))[:, 1])
    order, right = np.argsort(positive), np.where(test.labels, positive, 1 - positive)
    shown = [*order[:-4:-1], *order[:3], *np.argsort(right)[:3]]
    titles = [f"labelled {NAMES[test.labels[n]]}; the TextCNN: {positive[n]:.1%} positive" for n in shown]
    added = additions(model, xs[shown], mask[shown])
    plot_phrases([words[n] for n in shown], added, titles, args.out / "phrases.png")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
