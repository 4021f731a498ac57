"""Fine-tuning: what a classifier of movie reviews is worth where there are few product reviews to learn from.

    python -m examples.fine_tuning [--out runs/fine_tuning] [--smoke]

In goes a sentence of a product review, out comes whether it is positive. Nets are trained on 10,566 snippets of movie
reviews, and then on 100, 300, 1,000 and all 2,160 sentences of product reviews that there are to train on: all their
weights, those of the embedding slowly; a new head, on a net that stays as it is; head and low-rank adapters of the
recurrent weights. Beside them stand nets trained on the product sentences from scratch, the movie nets as they are,
TF-IDF with logistic regression, and the majority class.

Where the data come from is said in `examples.reviews`. Of the movie snippets 90 % are to train on, 10 % say when to
stop. Of the product sentences 60 % are to train on, 15 % say when to stop, the same at every size, and 25 % are the
test, looked at once; sentences of one review are in one part. The one vocabulary is that of both training parts without
the words that come once; of a sentence the first 48 words are read.

Three nets with seeds of their own are trained in one step; a score is their mean accuracy, with the standard deviation.
What was trained is stored and not trained again: a run that was stopped goes on where it was.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import jaxseq
from examples import options, out_folder, reviews
from examples.reviews import Reviews
from jaxseq import data, nn, train
from jaxseq.train import adapters, losses, metrics

EMBEDDING, HIDDEN, WORDS, BATCH, SEEDS, UNKNOWN = 64, 32, 48, 32, 3, 1


def adam(rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-2))


class Way(NamedTuple):
    """What to train from, and how."""

    start: Callable[[nnx.State, nnx.State, jax.Array], dict]  # (fresh net, movie net, key) -> params
    optimizer: optax.GradientTransformation


def with_new_head(fresh: nnx.State, movie: nnx.State, key: jax.Array) -> dict:
    return {"model": nnx.merge_state(movie, nnx.State({"head": fresh["head"]}))}


def with_adapters(fresh: nnx.State, movie: nnx.State, key: jax.Array) -> dict:
    return {"model": movie, "adapters": adapters.init(key, movie, 4, where="recurrent/*w_[xh]")}


SLOW_EMBEDDING = train.per_group({"model/embedding/*": adam(1e-3)}, default=adam(2e-3))
FROZEN_BODY = train.per_group({"model/embedding/*": None, "model/recurrent/*": None}, default=adam(5e-3))
SCRATCH = "from scratch"
WAYS = {
    SCRATCH: Way(lambda fresh, movie, key: {"model": fresh}, adam(2e-3)),
    "fine-tuned, all weights": Way(lambda fresh, movie, key: {"model": movie}, SLOW_EMBEDDING),
    "frozen, new head": Way(with_new_head, FROZEN_BODY),
    "frozen, adapters and head": Way(with_adapters, FROZEN_BODY),
}


def make_model(size: int, key: jax.Array) -> nn.SequenceClassifier:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(HIDDEN)), inputs=0.5)
    return nn.SequenceClassifier(net, EMBEDDING, 2, pooling="mean_max", vocabulary=size, rngs=nnx.Rngs(key))


def init(size: int, key: jax.Array) -> nnx.State:
    return nnx.split(make_model(size, key), nnx.Param)[1]


def merged(params: dict) -> nnx.State:
    """Returns the params of the model, with what its adapters, if there are any, add to them."""
    return adapters.apply(params["model"], params["adapters"]) if "adapters" in params else params["model"]


def make_loss(size: int) -> Callable:
    """Returns the loss function of one net."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: make_model(size, jax.random.key(0))))

    def loss_fn(params, batch, key):
        words_key, net_key = (None, None) if key is None else jax.random.split(key)
        ids = data.token_dropout(words_key, batch["xs"], 0.1, UNKNOWN, mask=batch["mask"])
        logits = nnx.merge(graph, merged(params))(ids, mask=batch["mask"], key=net_key)
        loss = losses.cross_entropy(logits, batch["labels"], smoothing=0.1, mask=batch["real"])
        accuracy = metrics.accuracy(logits.argmax(-1), batch["labels"], mask=batch["real"])
        return metrics.mean(loss, mask=batch["real"]), {"accuracy": accuracy}

    return loss_fn


def batches(vocabulary: data.Vocabulary, part: Reviews, seed: int | None = None) -> data.Loader:
    ids = [vocabulary.encode(data.words(text)[:WORDS]) for text in part.texts]
    return data.bucketed(ids, {"labels": part.labels}, BATCH, multiple=WORDS, seed=seed)


def by_ngrams(training: Reviews, validation: Reviews, test: Reviews) -> float:
    """The accuracy of TF-IDF of words and pairs with logistic regression, its strength chosen by validation."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(training.texts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(features, training.labels) for c in (1, 4, 16)]
    best = max(models, key=lambda model: model.score(vectorizer.transform(validation.texts), validation.labels))
    return best.score(vectorizer.transform(test.texts), test.labels)


class Nets:
    """Nets over one vocabulary, `SEEDS` at once; a way's step is compiled once for all sizes."""

    def __init__(self, vocabulary: data.Vocabulary):
        self.vocabulary, self.loss = vocabulary, make_loss(len(vocabulary))
        self.steps = {name: train.make_step(self.loss, way.optimizer, ensemble=True) for name, way in WAYS.items()}
        self.keys = jax.random.split(jax.random.key(0), SEEDS)
        self.fresh = jax.jit(jax.vmap(lambda key: init(len(vocabulary), key)))(self.keys)

    def evaluator(self, part: Reviews) -> Callable[[dict], dict[str, float]]:
        """The mean loss and accuracy of the nets, and the accuracy of each."""

        def loss_fn(members, batch, key):
            loss, aux = jax.vmap(lambda params: self.loss(params, batch, key))(members)
            mean_loss, mean_accuracy = jax.tree.map(lambda x: x.sum(0), (loss, aux["accuracy"]))
            each = {f"{i}": jax.tree.map(lambda x, i=i: x[i], aux["accuracy"]) for i in range(SEEDS)}
            return mean_loss, {"accuracy": mean_accuracy, "each": each}

        return train.evaluator(loss_fn, batches(self.vocabulary, part))

    def train(self, way: str, params: dict, part: Reviews, validate: Callable, folder: Path, updates: int) -> nnx.State:
        """Returns the params of the nets trained on a part, or those that lie in the folder already."""
        if not train.saved(folder / "model"):
            start = jax.vmap(lambda params, key: train.init(params, WAYS[way].optimizer, key))
            state = jax.jit(start)(params, self.keys)
            loader = batches(self.vocabulary, part, seed=0)
            fitted = train.fit(
                self.steps[way],
                state,
                loader,
                epochs=-(-updates // len(loader)),
                every=max(1, updates // 10),
                validate=validate,
                patience=3,
                checkpoints=train.Checkpoints(folder / "checkpoints", keep=1) if folder.name == "movies" else None,
                progress=True,
            )
            row = min(fitted.history, key=lambda row: row["validation/loss"])
            scores = f"validation accuracy {row['validation/accuracy']:.1%} at step {row['step']}"
            print(f"{folder.name:32}{scores}", flush=True)
            train.save(folder / "model", jax.jit(jax.vmap(merged))(fitted.params), self.vocabulary.to_dict())
        return train.load(folder / "model", self.fresh).tree


def plot(scores: dict[str, dict[int, tuple[float, float]]], path: Path) -> None:
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, by_size in scores.items():
        sizes, (means, deviations) = list(by_size), np.array(list(by_size.values())).T
        line = {"majority class": ":", "movie nets as they are": "--"}.get(name, "o-")
        axes.errorbar(sizes, means, deviations, fmt=line, markersize=4, capsize=3, label=name)
    axes.set(xscale="log", xlabel="product sentences to train on", ylabel="accuracy on the test part")
    axes.xaxis.set_major_locator(FixedLocator(list(scores["majority class"])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "fine_tuning")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "fine_tuning")
    start = time.perf_counter()
    if args.smoke:
        filler = "the it was very with a and some of this"
        movies = reviews.made_up("splendid touching good", "dull clumsy bad", filler, 200)
        products = reviews.made_up("sturdy good", "broken bad", filler, 200, seed=1)
        sizes, movie_updates, updates = (), 60, 12
    else:
        movies, products = reviews.english("movie"), reviews.english("amazon")
        sizes, movie_updates, updates = (100, 300, 1000), 1500, 300

    movies_training, movies_validation = movies.split((0.9, 0.1))
    training, validation, test = products.split((0.6, 0.15, 0.25))
    texts = movies_training.texts + training.texts
    nets = Nets(data.Vocabulary.build(map(data.words, texts), min_count=2))
    sizes = (*sizes, len(training.texts))
    print(f"{len(movies_training.texts)} movie snippets and {sizes[-1]} product sentences to train on, ", end="")
    print(f"{len(validation.texts)} to validate, {len(test.texts)} to test; {len(nets.vocabulary)} words")

    validate = nets.evaluator(movies_validation)
    movie = nets.train(SCRATCH, {"model": nets.fresh}, movies_training, validate, args.out / "movies", movie_updates)
    order, validate = np.random.default_rng(0).permutation(sizes[-1]), nets.evaluator(validation)
    parts, trained = {n: training.take(order[:n]) for n in sizes}, {}
    for name, way in WAYS.items():
        params = jax.jit(jax.vmap(way.start))(nets.fresh, movie, nets.keys)
        for n, part in parts.items():
            folder = args.out / f"{name} {n}".replace(",", "").replace(" ", "-")
            trained[name, n] = nets.train(name, params, part, validate, folder, updates)

    evaluate = nets.evaluator(test)

    def score(model):
        values = evaluate({"model": model})
        each = [values[f"each/{i}"] for i in range(SEEDS)]
        return np.mean(each), np.std(each)

    majority = np.mean(test.labels == np.bincount(training.labels).argmax())
    scores = {
        "majority class": dict.fromkeys(sizes, (majority, 0.0)),
        "TF-IDF + logistic regression": {n: (by_ngrams(part, validation, test), 0.0) for n, part in parts.items()},
        "movie nets as they are": dict.fromkeys(sizes, score(movie)),
        **{name: {n: score(trained[name, n]) for n in sizes} for name in WAYS},
    }
    print(f"\n{'test part, accuracy':30}" + "".join(f"{n:>14,}" for n in sizes))
    for name, by_size in scores.items():
        cells = (f"{mean:.1%}" + (f" ± {100 * std:.1f}" if std else "      ") for mean, std in by_size.values())
        print(f"{name:30}" + "".join(f"{cell:>14}" for cell in cells))
    plot(scores, args.out / "accuracy.png")
    print(f"\n{time.perf_counter() - start:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
