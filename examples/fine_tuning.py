"""Fine-tuning: what a classifier of movie reviews is worth where there are few product reviews to learn from.

    python -m examples.fine_tuning [--out runs/fine_tuning] [--smoke]

In goes a sentence of a product review, out comes whether it is positive. Nets are trained on 10,566 snippets of movie
reviews, and then on 100, 300, 1,000 and all 2,160 sentences of product reviews that there are to train on: all their
weights, those of the embedding slowly; a new head, on a net that stays as it is; head and low-rank adapters of the
recurrent weights. Beside them stand nets trained on the product sentences from scratch, the movie nets as they are,
TF-IDF with logistic regression, and the majority class.

Where the data come from is said in `examples/data/reviews.py`. Of the movie snippets 90 % are to train on, 10 % say
when to stop. Of the product sentences 60 % are to train on, 15 % say when to stop, the same at every size, and 25 % are
the test, looked at once; sentences of one review are in one part. The one vocabulary is that of both training parts
without the words that come once; of a sentence the first 48 words are read.

Three nets with seeds of their own are trained in one step; a score is their mean accuracy, with the standard deviation.
What was trained is stored and not trained again: a run that was stopped goes on where it was.
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import tfidf
from examples.data import reviews
from examples.data.reviews import Reviews
from examples.reports.fine_tuning import plot, print_row, print_scores, print_sizes
from examples.shared.text_classifiers import batches, of_each, read, score, spread
from jaxseq import data, nn, train
from jaxseq.train import adapters

EMBEDDING, HIDDEN, WORDS, BATCH, SEEDS = 64, 32, 48, 32, 3
adam = lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-2))
SLOW_EMBEDDING = train.per_group({"model/embedding/*": adam(1e-3)}, default=adam(2e-3))
FROZEN = train.per_group({"model/embedding/*": None, "model/recurrent/*": None}, default=adam(5e-3))
with_head = lambda net, other: nnx.merge_state(net, nnx.State({"head": other["head"]}))
low_rank = lambda key, net: adapters.init(key, net, 4, where="recurrent/*w_[xh]")
SCRATCH = "from scratch"
WAYS = {  # what to train from, a function of a fresh net, the movie net and a key; and how
    SCRATCH: (lambda fresh, movie, key: {"model": fresh}, adam(2e-3)),
    "fine-tuned, all weights": (lambda fresh, movie, key: {"model": movie}, SLOW_EMBEDDING),
    "frozen, new head": (lambda fresh, movie, key: {"model": with_head(movie, fresh)}, FROZEN),
    "frozen, adapters and head": (lambda fresh, movie, key: {"model": movie, "adapters": low_rank(key, movie)}, FROZEN),
}


def make_model(size: int, key: jax.Array) -> nn.SequenceClassifier:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(HIDDEN)), inputs=0.5)
    return nn.SequenceClassifier(net, EMBEDDING, 2, pooling="mean_max", vocabulary=size, rngs=nnx.Rngs(key))


def init(size: int, key: jax.Array) -> nnx.State:
    return nnx.split(make_model(size, key), nnx.Param)[1]


def merged(params: dict) -> nnx.State:
    """Returns the params of the model, with what its adapters, if there are any, add to them."""
    return adapters.apply(params["model"], params["adapters"]) if "adapters" in params else params["model"]


class Nets:
    """Nets over one vocabulary, `SEEDS` at once; a way's step is compiled once for all sizes."""

    def __init__(self, vocabulary: data.Vocabulary):
        self.vocabulary, self.keys = vocabulary, jax.random.split(jax.random.key(0), SEEDS)
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: make_model(len(vocabulary), jax.random.key(0))))
        self.steps = {name: train.make_step(self.loss, how, ensemble=True) for name, (_, how) in WAYS.items()}
        self.fresh = jax.jit(jax.vmap(lambda key: init(len(vocabulary), key)))(self.keys)

    def loss(self, params, batch, key):
        """The loss of one net."""
        return score(read(nnx.merge(self.graph, merged(params)), batch, key, dropped=0.1), batch, smoothing=0.1)

    def evaluator(self, part: Reviews) -> Callable[[dict], dict[str, float]]:
        """The mean loss and accuracy of the nets, and the accuracy of each."""
        return train.evaluator(of_each(self.loss, SEEDS), batches(self.vocabulary, part, BATCH, WORDS))

    def train(self, way: str, params: dict, part: Reviews, validate: Callable, folder: Path, updates: int) -> nnx.State:
        """Returns the params of the nets trained on a part, or those that lie in the folder already."""
        if not train.saved(folder / "model"):
            loader = batches(self.vocabulary, part, BATCH, WORDS, seed=0)
            fitted = train.fit(
                self.steps[way],
                jax.jit(jax.vmap(lambda params, key: train.init(params, WAYS[way][1], key)))(params, self.keys),
                loader,
                epochs=-(-updates // len(loader)),
                every=max(1, updates // 10),
                validate=validate,
                patience=3,
                checkpoints=train.Checkpoints(folder / "checkpoints", keep=1) if folder.name == "movies" else None,
                progress=True,
            )
            print_row(folder.name, fitted.history)
            train.save(folder / "model", jax.jit(jax.vmap(merged))(fitted.params), self.vocabulary.to_dict())
        return train.load(folder / "model", self.fresh).tree


def main(argv: list[str] | None = None) -> None:
    args = options(__doc__, "fine_tuning").parse_args(argv)
    args.out = out_folder(args, "fine_tuning")
    start = time.perf_counter()
    sizes, movie_updates, updates = ((), 60, 12) if args.smoke else ((100, 300, 1000), 1500, 300)
    movies, products = reviews.movies_and_products(smoke=args.smoke)
    movies_training, movies_validation = movies.split((0.9, 0.1))
    training, validation, test = products.split((0.6, 0.15, 0.25))
    nets = Nets(data.Vocabulary.build(map(data.words, movies_training.texts + training.texts), min_count=2))
    sizes = (*sizes, len(training.texts))
    print_sizes(movies_training, training, validation, test, len(nets.vocabulary))

    validate = nets.evaluator(movies_validation)
    movie = nets.train(SCRATCH, {"model": nets.fresh}, movies_training, validate, args.out / "movies", movie_updates)
    order, validate = np.random.default_rng(0).permutation(sizes[-1]), nets.evaluator(validation)
    parts, trained = {n: training.take(order[:n]) for n in sizes}, {}
    for name, (begin, _) in WAYS.items():
        params = jax.jit(jax.vmap(begin))(nets.fresh, movie, nets.keys)
        for n, part in parts.items():
            folder = args.out / f"{name} {n}".replace(",", "").replace(" ", "-")
            trained[name, n] = nets.train(name, params, part, validate, folder, updates)

    evaluate = nets.evaluator(test)
    counted = {n: (tfidf.accuracy(part, validation, test, strengths=(1, 4, 16)), 0.0) for n, part in parts.items()}
    scores = {
        "majority class": dict.fromkeys(sizes, (float(np.mean(test.labels == tfidf.majority(training))), 0.0)),
        "TF-IDF + logistic regression": counted,
        "movie nets as they are": dict.fromkeys(sizes, spread(evaluate({"model": movie}))),
        **{name: {n: spread(evaluate({"model": trained[name, n]})) for n in sizes} for name in WAYS},
    }
    print_scores(scores)
    plot(scores, args.out / "accuracy.png")
    print(f"\n{time.perf_counter() - start:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
