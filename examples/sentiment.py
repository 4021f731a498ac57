"""Sentiment of reviews, English or Chinese: from raw text to a trained, saved, reloaded and evaluated model.

    python -m examples.sentiment                                            ["a sentence to classify" …]
    python -m examples.sentiment --language zh                              ["要分类的句子" …]
    python -m examples.sentiment --predict-only "a sentence to classify"

In goes a text, out comes the probability that it is positive. English texts are 10,566 snippets of movie reviews, read
as words; Chinese ones are 17,321 reviews of books, hotels and computers, read as characters, of which longer ones keep
their first 64 and their last 64. Where both come from is said in `examples/data/reviews.py`. 75 % are to train on, 10 %
choose when to stop and the baseline's strength, 15 % are the test; Chinese reviews that start alike stay in one part.

A bidirectional GRU reads the tokens, its outputs are pooled by mean and maximum, and several such nets, trained in one
step, vote. The test part is looked at once, by the model that was saved and loaded, beside TF-IDF with logistic
regression and the majority class. A run that was stopped goes on where it was; give one of other options its own --out.
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import tfidf
from examples.data.reviews import LANGUAGES, Reviews
from examples.reports.sentiment import plot_confusion, print_probabilities, print_row, print_scores, print_sizes
from examples.shared.text_classifiers import classify, read, score
from jaxseq import data, nn, train

EMBEDDING, HIDDEN, BATCH = 64, 32, 64
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2))
MEMBERS, DROPOUT = {"en": 4, "zh": 2}, {"en": 0.7, "zh": 0.3}  # nets that vote; of the embedding's features
NGRAMS = {"en": tfidf.WORDS_AND_PAIRS, "zh": {"analyzer": "char", "ngram_range": (1, 3), "min_df": 2}}


def make_model(dropout: float, size: int, key: jax.Array) -> nn.SequenceClassifier:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(HIDDEN)), inputs=dropout)
    return nn.SequenceClassifier(net, EMBEDDING, 2, pooling="mean_max", vocabulary=size, rngs=nnx.Rngs(key))


class Ensemble:
    """A few nets over one vocabulary, as functions of their params."""

    def __init__(self, language: str, size: int):
        self.make = lambda key: make_model(DROPOUT[language], size, key)
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: self.make(jax.random.key(0))))
        self.vote = train.average(lambda params, batch: jax.nn.softmax(self.logits(params, batch)))  # [B, 2]

    def init(self, key: jax.Array) -> nnx.State:
        """The params of one member."""
        return nnx.split(self.make(key), nnx.Param)[1]

    def logits(self, params, batch, key=None):
        """What one member says, `[B, 2]`."""
        return read(nnx.merge(self.graph, params), batch, key, dropped=0.1)

    def loss(self, params, batch, key):
        """The loss of one member, for training."""
        return score(self.logits(params, batch, key), batch, smoothing=0.1)

    def validation_loss(self, members, batch, key):
        """The loss of all together."""
        return score(jnp.log(self.vote(members, batch)), batch)


def fit(language: str, vocabulary: data.Vocabulary, parts: list[Reviews], args) -> train.Fit:
    """Trains until the validation loss has not improved for two epochs."""
    batch_size = 8 if args.smoke else BATCH
    training, validation = (
        data.bucketed(encode(language, vocabulary, part.texts), {"labels": part.labels}, batch_size, seed=seed)
        for part, seed in zip(parts, (args.seed, None), strict=True)
    )
    ensemble = Ensemble(language, len(vocabulary))
    keys = jax.random.split(jax.random.key(args.seed), MEMBERS[language])
    settings = {"seed": args.seed, "data": str(args.data), "smoke": args.smoke}
    return train.fit(
        train.make_step(ensemble.loss, OPTIMIZER, ensemble=True),
        jax.jit(jax.vmap(lambda key: train.init(ensemble.init(key), OPTIMIZER, key)))(keys),
        training,
        epochs=4 if args.smoke else 12,
        validate=train.evaluator(ensemble.validation_loss, validation),
        patience=2,
        callbacks=[print_row],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=settings),
        progress=True,
    )


def encode(language: str, vocabulary: data.Vocabulary, texts: list[str]) -> list[np.ndarray]:
    return [vocabulary.encode(LANGUAGES[language].tokens(text)) for text in texts]


def load(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Returns the model that is stored in `folder`, as a function from texts to probabilities `[N, 2]`."""
    info = train.load_info(folder)
    language, vocabulary = info["language"], data.Vocabulary.from_dict(info["vocabulary"])
    ensemble = Ensemble(language, len(vocabulary))
    like = jax.eval_shape(jax.vmap(ensemble.init), jax.random.split(jax.random.key(0), MEMBERS[language]))
    members, vote = train.load(folder, like).tree, jax.jit(ensemble.vote)
    return lambda texts: classify(vote, members, encode(language, vocabulary, texts), BATCH)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "sentiment-LANGUAGE")
    parser.add_argument("sentences", nargs="*", help="classified at the end; default: three of the language")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the reviews")
    parser.add_argument("--data", type=Path, help="a file of your own: id, score and text by tabs, a line each")
    parser.add_argument("--predict-only", action="store_true", help="use the model in --out")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, f"sentiment-{args.language}")
    language, folder = LANGUAGES[args.language], args.out / "model"

    if not args.predict_only:
        start = time.perf_counter()
        texts = language.reviews(args.data, smoke=args.smoke)
        training, validation, test = parts = texts.split()
        vocabulary = data.Vocabulary.build(map(language.tokens, training.texts))
        print_sizes(parts, len(vocabulary))
        fitted = fit(args.language, vocabulary, [training, validation], args)
        train.save(folder, fitted.params, {"language": args.language, "vocabulary": vocabulary.to_dict()})
        train.curves.plot(fitted.history, args.out / "curves.png", names=("loss", "accuracy"))
        ours = load(folder)(test.texts).argmax(1)
        predictions = {
            f"jaxseq, {MEMBERS[args.language]} bidirectional GRUs": ours,
            "TF-IDF + logistic regression": tfidf.predict(NGRAMS[args.language], training, validation, test.texts),
            "majority class": np.full(len(test.labels), tfidf.majority(training)),
        }
        print_scores(test.labels, predictions)
        plot_confusion(test.labels, ours, args.out / "confusion.png")
        print(f"\n{time.perf_counter() - start:.0f} s; wrote {args.out}")
    elif not train.saved(folder):
        parser.error(f"there is no model at {folder}; run once without --predict-only")

    sentences = args.sentences or list(language.sentences)
    print_probabilities(sentences, load(folder)(sentences))


if __name__ == "__main__":
    main()
