"""Sentiment of reviews, English or Chinese: from raw text to a trained, saved, reloaded and evaluated model.

    python -m examples.sentiment                                            ["a sentence to classify" …]
    python -m examples.sentiment --language zh                              ["要分类的句子" …]
    python -m examples.sentiment --predict-only "a sentence to classify"

In goes a text, out comes the probability that it is positive. English texts are 10,566 snippets of movie reviews, read
as words; Chinese ones are 17,321 reviews of books, hotels and computers, read as characters, of which longer ones keep
their first 64 and their last 64. Where both come from is said in `examples.reviews`. 75 % are to train on, 10 % choose
when to stop and the baseline's strength, 15 % are the test; Chinese reviews that start alike stay in one part.

A bidirectional GRU reads the tokens, its outputs are pooled by mean and maximum, and several such nets, trained in one
step, vote. The test part is looked at once, by the model that was saved and loaded, beside TF-IDF with logistic
regression and the majority class. A run that was stopped goes on where it was; give one of other options its own --out.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, precision_recall_fscore_support

import jaxseq
from examples import options, out_folder, reviews
from examples.reviews import Reviews
from jaxseq import data, nn, train
from jaxseq.train import curves, losses, metrics

EMBEDDING, HIDDEN, BATCH, UNKNOWN = 64, 32, 64, 1
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2))


def characters(text: str) -> list[str]:
    """Returns the characters but for spaces, in lower case; of a long text the first 64 and the last 64."""
    kept = [character for character in text.lower() if not character.isspace()]
    return kept if len(kept) <= 128 else kept[:64] + kept[-64:]


class Language(NamedTuple):
    load: Callable[[], Reviews]
    tokens: Callable[[str], list[str]]
    members: int  # nets that vote
    dropout: float  # of the embedding's features
    ngrams: dict  # of the baseline
    sentences: tuple[str, ...]
    made_up: tuple[str, str, str]  # praise, blame, filler


LANGUAGES = {
    "en": Language(
        lambda: reviews.english("movie"),
        data.words,
        4,
        0.7,
        {"ngram_range": (1, 2)},
        (
            "A warm, funny and beautifully acted film.",
            "A tedious, clumsy mess of a film.",
            "The plot is thin, but the performances are wonderful.",
        ),
        ("splendid touching clever", "dull clumsy tiresome", "the film was very with a plot and some actors"),
    ),
    "zh": Language(
        reviews.chinese,
        characters,
        2,
        0.3,
        {"analyzer": "char", "ngram_range": (1, 3), "min_df": 2},
        (
            "房间很干净，服务也非常热情。",
            "印刷太差了，看了两页就不想再看。",
            "价格便宜，不过电池用不了多久。",
        ),
        ("很好 喜欢 不错", "太差 失望 糟糕", "这 本 书 的 房间 我 看 了 一 天"),
    ),
}


def make_model(language: Language, size: int, key: jax.Array) -> nn.SequenceClassifier:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(HIDDEN)), inputs=language.dropout)
    return nn.SequenceClassifier(net, EMBEDDING, 2, pooling="mean_max", vocabulary=size, rngs=nnx.Rngs(key))


class Ensemble(NamedTuple):
    """A few nets over one vocabulary, as pure functions of their params."""

    init: Callable[[jax.Array], nnx.State]  # of one member
    loss: Callable  # of one member, for training
    vote: Callable  # (members, batch) -> mean probabilities [B, 2]
    vote_loss: Callable  # of all members, for validation


def make_ensemble(language: Language, size: int) -> Ensemble:
    graph = nnx.graphdef(nnx.eval_shape(lambda: make_model(language, size, jax.random.key(0))))

    def logits(params, batch, key=None):
        words_key, net_key = (None, None) if key is None else jax.random.split(key)
        ids = data.token_dropout(words_key, batch["xs"], 0.1, UNKNOWN, mask=batch["mask"])
        return nnx.merge(graph, params)(ids, mask=batch["mask"], key=net_key)

    def report(logits, batch, smoothing):
        loss = losses.cross_entropy(logits, batch["labels"], smoothing=smoothing, mask=batch["real"])
        accuracy = metrics.accuracy(logits.argmax(-1), batch["labels"], mask=batch["real"])
        return metrics.mean(loss, mask=batch["real"]), {"accuracy": accuracy}

    vote = train.average(lambda params, batch: jax.nn.softmax(logits(params, batch)))
    return Ensemble(
        init=lambda key: nnx.split(make_model(language, size, key), nnx.Param)[1],
        loss=lambda params, batch, key: report(logits(params, batch, key), batch, 0.1),
        vote=vote,
        vote_loss=lambda members, batch, key: report(jnp.log(vote(members, batch)), batch, 0.0),
    )


def fit(language: Language, vocabulary: data.Vocabulary, parts: list[Reviews], args: argparse.Namespace) -> train.Fit:
    """Trains until the validation loss has not improved for two epochs."""
    ids = [encode(language, vocabulary, part.texts) for part in parts]
    training, validation = (
        data.bucketed(texts, {"labels": part.labels}, 8 if args.smoke else BATCH, seed=seed)
        for texts, part, seed in zip(ids, parts, (args.seed, None), strict=True)
    )
    ensemble = make_ensemble(language, len(vocabulary))
    keys = jax.random.split(jax.random.key(args.seed), language.members)
    settings = {"seed": args.seed, "data": str(args.data), "smoke": args.smoke}
    return train.fit(
        train.make_step(ensemble.loss, OPTIMIZER, ensemble=True),
        jax.jit(jax.vmap(lambda key: train.init(ensemble.init(key), OPTIMIZER, key)))(keys),
        training,
        epochs=4 if args.smoke else 12,
        validate=train.evaluator(ensemble.vote_loss, validation),
        patience=2,
        callbacks=[print_row],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=settings),
        progress=True,
    )


def print_row(fitted: train.Fit) -> None:
    row = fitted.history[-1]
    print(f"epoch {row['epoch']:.0f}: training loss {row['loss']:.3f}, validation loss ", end="")
    print(f"{row['validation/loss']:.3f}, validation accuracy {row['validation/accuracy']:.1%}", flush=True)


def encode(language: Language, vocabulary: data.Vocabulary, texts: list[str]) -> list[np.ndarray]:
    return [vocabulary.encode(language.tokens(text)) for text in texts]


def load(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Returns the model that is stored in `folder`, as a function from texts to probabilities `[N, 2]`."""
    info = train.load_info(folder)
    language, vocabulary = LANGUAGES[info["language"]], data.Vocabulary.from_dict(info["vocabulary"])
    ensemble = make_ensemble(language, len(vocabulary))
    like = jax.eval_shape(jax.vmap(ensemble.init), jax.random.split(jax.random.key(0), language.members))
    members, vote = train.load(folder, like).tree, jax.jit(ensemble.vote)

    def predict(texts):
        probabilities = np.zeros((len(texts), 2))
        loader = data.bucketed(encode(language, vocabulary, texts), {"index": np.arange(len(texts))}, BATCH)
        for batch in loader.epoch(0):
            index = batch.pop("index")[batch["real"]]
            probabilities[index] = vote(members, batch)[batch["real"]]
        return probabilities

    return predict


def predict_by_ngrams(ngrams: dict, training: Reviews, validation: Reviews, texts: list[str]) -> np.ndarray:
    """The baseline: TF-IDF of n-grams, logistic regression, its strength chosen on the validation part."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, **ngrams)
    features = vectorizer.fit_transform(training.texts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(features, training.labels) for c in (1, 2, 4, 8, 16)]
    scores = [model.score(vectorizer.transform(validation.texts), validation.labels) for model in models]
    return models[int(np.argmax(scores))].predict(vectorizer.transform(texts))


def print_scores(labels: np.ndarray, predictions: dict[str, np.ndarray]) -> None:
    print(f"\n{'test part':32}{'accuracy':>10}{'precision':>10}{'recall':>10}{'F1':>10}")
    for name, predicted in predictions.items():
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="binary", zero_division=0)
        scores = (accuracy_score(labels, predicted), precision, recall, f1)
        print(f"{name:32}" + "".join(f"{score:10.1%}" for score in scores))


def plot_confusion(labels: np.ndarray, predicted: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    names = ("negative", "positive")
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, display_labels=names, ax=figure.subplots(), cmap="Blues", colorbar=False
    )
    figure.axes[0].set(title="Test part", xlabel="predicted", ylabel="label")
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "sentiment-LANGUAGE")
    parser.add_argument("sentences", nargs="*", help="classified at the end")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    parser.add_argument("--data", type=Path, help="a file of your own: id, score and text by tabs, a line each")
    parser.add_argument("--predict-only", action="store_true", help="use the model in --out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out = out_folder(args, f"sentiment-{args.language}")
    language, folder = LANGUAGES[args.language], args.out / "model"

    if not args.predict_only:
        start = time.perf_counter()
        if args.data is not None:
            texts = reviews.parse_scored(args.data.read_text(encoding="utf-8"))
        else:
            texts = reviews.made_up(*language.made_up, 300) if args.smoke else language.load()
        training, validation, test = texts.split()
        vocabulary = data.Vocabulary.build(map(language.tokens, training.texts))
        print(f"{len(training.texts)} texts to train on, {len(validation.texts)} to validate, ", end="")
        print(f"{len(test.texts)} to test; {len(vocabulary)} tokens")
        fitted = fit(language, vocabulary, [training, validation], args)
        train.save(folder, fitted.params, {"language": args.language, "vocabulary": vocabulary.to_dict()})
        curves.plot(fitted.history, args.out / "curves.png", names=("loss", "accuracy"))
        predictions = {
            f"jaxseq, {language.members} bidirectional GRUs": load(folder)(test.texts).argmax(1),
            "TF-IDF + logistic regression": predict_by_ngrams(language.ngrams, training, validation, test.texts),
            "majority class": np.full(len(test.labels), np.bincount(training.labels).argmax()),
        }
        print_scores(test.labels, predictions)
        plot_confusion(test.labels, next(iter(predictions.values())), args.out / "confusion.png")
        print(f"\n{time.perf_counter() - start:.0f} s; wrote {args.out}")
    elif not train.saved(folder):
        parser.error(f"there is no model at {folder}; run once without --predict-only")

    print()
    sentences = args.sentences or list(language.sentences)
    for sentence, (_, positive) in zip(sentences, load(folder)(sentences), strict=True):
        print(f"{'positive' if positive > 0.5 else 'negative'} {max(positive, 1 - positive):6.1%}  {sentence}")


if __name__ == "__main__":
    main()
