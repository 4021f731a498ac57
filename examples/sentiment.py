"""Sentiment of movie reviews: from raw sentences to a trained, saved, reloaded and evaluated model.

    python -m examples.sentiment [--out runs/sentiment] ["a sentence to classify" …]
    python -m examples.sentiment --predict-only "a sentence to classify"

The data are the 10,605 movie-review snippets of Hutto & Gilbert (2014), each with the mean of 20 people's scores; the
label is the score's sign. A bidirectional GRU reads the words, its outputs are pooled by mean and maximum over the real
steps, and four such nets, trained in one step by `jax.vmap`, vote. The test part is looked at once, by the model that
was reloaded from its checkpoint, beside a TF-IDF + logistic regression baseline and the majority class.
"""

import argparse
import io
import re
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from tqdm import tqdm

import jaxseq
from examples.packages import fetch_sdist

MEMBERS, EMBEDDING, BATCH, BUCKET = 4, 64, 64, 16
CELL = jaxseq.gru(32)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2))
PADDING, UNKNOWN = 0, 1
SENTENCES = (
    "A warm, funny and beautifully acted film.",
    "A tedious, clumsy mess of a film.",
    "The plot is thin, but the performances are wonderful.",
)


class Params(NamedTuple):
    embedding: jax.Array  # [V, E]
    forward: jaxseq.GruParams
    backward: jaxseq.GruParams
    w: jax.Array  # [4H, 2]: mean and maximum of both directions to the logits
    b: jax.Array  # [2]


class Examples(NamedTuple):
    texts: list[str]
    labels: np.ndarray  # int [N], 1 is positive


def load_reviews() -> Examples:
    """Reads the snippets, without duplicates and without those whose score is zero."""
    sha256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    with tarfile.open(fetch_sdist("vaderSentiment", "3.3.2", sha256)) as package:
        inner = package.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        lines = archive.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").read().decode()
    return parse_reviews(lines)


def parse_reviews(lines: str) -> Examples:
    """Parses lines of `id <tab> mean score <tab> text`."""
    scores = {}
    for line in lines.splitlines():
        _, score, text = line.split("\t")
        if float(score) != 0:
            scores.setdefault(text.strip(), float(score))
    return Examples(list(scores), np.array([int(score > 0) for score in scores.values()]))


def split(examples: Examples) -> tuple[Examples, Examples, Examples]:
    """Splits into training (75 %), validation (10 %) and test (15 %), always alike."""
    order = np.random.default_rng(0).permutation(len(examples.texts))
    test, validation, train = np.split(order, [int(0.15 * len(order)), int(0.25 * len(order))])
    parts = (Examples([examples.texts[i] for i in part], examples.labels[part]) for part in (train, validation, test))
    return tuple(parts)


def tokenize(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)*|\d+|[!?]", text.lower().replace("’", "'"))


def encode(texts: list[str], vocabulary: dict[str, int]) -> list[list[int]]:
    return [[vocabulary.get(word, UNKNOWN) for word in tokenize(text)] for text in texts]


def batches(sentences: list[list[int]], seed: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the numbers of the sentences in a batch, and their ids `[T, B]`; T is a multiple of BUCKET.

    Sentences of alike length come together, shuffled where there is a seed. A last short batch is filled with empty
    rows, so that few shapes are compiled.
    """
    buckets = -(-np.array([len(sentence) for sentence in sentences]) // BUCKET)
    shuffle = np.arange(len(sentences)) if seed is None else np.random.default_rng(seed).permutation(len(sentences))
    order = shuffle[np.argsort(buckets[shuffle], kind="stable")]
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    if seed is not None:
        np.random.default_rng(seed).shuffle(groups)
    for group in groups:
        ids = np.full((BUCKET * max(1, buckets[group].max()), BATCH), PADDING)
        for row, sentence in enumerate(group):
            ids[: len(sentences[sentence]), row] = sentences[sentence]
        yield group, ids


def init(key: jax.Array, words: int) -> Params:
    keys = jax.random.split(key, 3)
    return Params(
        embedding=0.1 * jax.random.normal(keys[0], (words, EMBEDDING)),
        forward=CELL.init(keys[1], EMBEDDING),
        backward=CELL.init(keys[2], EMBEDDING),
        w=jnp.zeros((4 * CELL.size, 2)),
        b=jnp.zeros(2),
    )


def classify(params: Params, ids: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns the logits `[B, 2]` of the sentences `ids [T, B]`; with a key, some inputs are dropped."""
    mask = ids != PADDING
    if key is not None:
        key, word_key = jax.random.split(key)
        ids = jnp.where(jax.random.bernoulli(word_key, 0.1, ids.shape), UNKNOWN, ids)
    xs = params.embedding[ids]
    if key is not None:
        xs *= jax.random.bernoulli(key, 0.3, xs.shape[1:]) / 0.3  # one mask for all steps (Gal & Ghahramani 2016)
    directions = jaxseq.Bidirectional(params.forward, params.backward)
    _, ys = jaxseq.unroll(jaxseq.bidirectional(CELL), directions, xs, mask=mask)
    mean = ys.sum(0) / jnp.maximum(mask.sum(0), 1)[:, None]
    maximum = jnp.where(mask[..., None], ys, -1.0).max(0)
    return jnp.concatenate([mean, maximum], axis=-1) @ params.w + params.b


def loss_fn(params: Params, ids: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 2), 0.1)
    losses = optax.softmax_cross_entropy(classify(params, ids, key), targets)
    real = jnp.any(ids != PADDING, axis=0)
    return jnp.sum(losses, where=real) / jnp.maximum(real.sum(), 1)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None, None, 0))
def train_step(params: Params, state: optax.OptState, ids: jax.Array, labels: jax.Array, key: jax.Array):
    """One step of every member: params, optimiser state and key have a leading axis of members."""
    loss, gradients = jax.value_and_grad(loss_fn)(params, ids, labels, key)
    updates, state = OPTIMIZER.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss


@jax.jit
def vote(params: Params, ids: jax.Array) -> jax.Array:
    """The members' mean probabilities `[B, 2]`."""
    return jax.nn.softmax(jax.vmap(classify, (0, None))(params, ids)).mean(0)


def predict(params: Params, sentences: list[list[int]]) -> np.ndarray:
    """Returns the probabilities `[N, 2]`."""
    probabilities = np.zeros((len(sentences), 2))
    for group, ids in batches(sentences):
        probabilities[group] = vote(params, ids)[: len(group)]
    return probabilities


class Epoch(NamedTuple):
    training_loss: float
    validation_loss: float
    validation_accuracy: float


def train(train_part: Examples, validation: Examples, vocabulary: dict[str, int], epochs: int):
    """Trains until the validation loss has not improved for two epochs; returns the best params and the curves."""
    train_ids, validation_ids = encode(train_part.texts, vocabulary), encode(validation.texts, vocabulary)
    key, init_key = jax.random.split(jax.random.key(0))
    params = jax.vmap(lambda key: init(key, len(vocabulary) + 2))(jax.random.split(init_key, MEMBERS))
    state = jax.vmap(OPTIMIZER.init)(params)
    best, curves = params, []
    for epoch in range(epochs):
        losses = []
        for group, ids in tqdm(list(batches(train_ids, seed=epoch)), desc=f"epoch {epoch + 1}", disable=None):
            key, step_key = jax.random.split(key)
            labels = np.pad(train_part.labels[group], (0, BATCH - len(group)))
            params, state, loss = train_step(params, state, ids, labels, jax.random.split(step_key, MEMBERS))
            losses.append(loss)
        probabilities = predict(params, validation_ids)
        validation_loss = -np.log(probabilities[np.arange(len(validation.labels)), validation.labels]).mean()
        accuracy = (probabilities.argmax(1) == validation.labels).mean()
        curves.append(Epoch(float(np.mean(losses)), float(validation_loss), float(accuracy)))
        print(f"epoch {epoch + 1}: training loss {curves[-1].training_loss:.3f}, ", end="")
        print(f"validation loss {validation_loss:.3f}, validation accuracy {accuracy:.1%}", flush=True)
        history = [entry.validation_loss for entry in curves]
        if history[-1] == min(history):
            best = params
        elif len(history) - 1 - np.argmin(history) >= 2:
            break
    return best, curves


def predict_by_words(train_part: Examples, validation: Examples, test: Examples) -> np.ndarray:
    """The baseline: TF-IDF of words and pairs, logistic regression, its strength chosen on the validation part."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(train_part.texts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(features, train_part.labels) for c in (0.5, 1, 2, 4, 8, 16)]
    scores = [model.score(vectorizer.transform(validation.texts), validation.labels) for model in models]
    return models[int(np.argmax(scores))].predict(vectorizer.transform(test.texts))


def print_scores(labels: np.ndarray, predictions: dict[str, np.ndarray]) -> None:
    print(f"\n{'test part':32}{'accuracy':>10}{'precision':>10}{'recall':>10}{'F1':>10}")
    for name, predicted in predictions.items():
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="binary", zero_division=0)
        scores = (accuracy_score(labels, predicted), precision, recall, f1)
        print(f"{name:32}" + "".join(f"{score:10.1%}" for score in scores))


def plot_curves(curves: list[Epoch], path: Path) -> None:
    epochs = np.arange(1, len(curves) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(epochs, [epoch.training_loss for epoch in curves], "o-", label="training (smoothed labels, dropout)")
    left.plot(epochs, [epoch.validation_loss for epoch in curves], "s-", label="validation")
    left.set(title="Loss", ylabel="cross-entropy, nats")
    left.legend(frameon=False, loc="lower left")
    right.plot(epochs, [100 * epoch.validation_accuracy for epoch in curves], "s-", color="C1")
    right.set(title="Accuracy on the validation part", ylabel="%")
    best = 1 + int(np.argmin([epoch.validation_loss for epoch in curves]))
    for axes in (left, right):
        axes.axvline(best, color="0.7", linestyle=":")
        axes.set(xlabel="epoch", xticks=epochs)
        axes.spines[["top", "right"]].set_visible(False)
    right.annotate("kept", (best, right.get_ylim()[0]), xytext=(4, 4), textcoords="offset points", color="0.5")
    figure.savefig(path, dpi=150)


def save(path: Path, params: Params, words: list[str]) -> None:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = {"params": ocp.args.StandardSave(params), "vocabulary": ocp.args.JsonSave({"words": words})}
        checkpointer.save(path.absolute(), ocp.args.Composite(**items), force=True)


def load(path: Path) -> tuple[Params, dict[str, int]]:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        stored = checkpointer.restore(path.absolute(), ocp.args.Composite(vocabulary=ocp.args.JsonRestore()))
        vocabulary = make_vocabulary(stored.vocabulary["words"])
        keys = jax.random.split(jax.random.key(0), MEMBERS)
        like = jax.eval_shape(jax.vmap(lambda key: init(key, len(vocabulary) + 2)), keys)
        params = checkpointer.restore(path.absolute(), ocp.args.Composite(params=ocp.args.StandardRestore(like))).params
    return params, vocabulary


def make_vocabulary(words: list[str]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="classified after training")
    parser.add_argument("--out", type=Path, default=Path("runs/sentiment"), help="folder of picture and checkpoint")
    parser.add_argument("--data", type=Path, help="a file of your own: id, score and text by tabs, a line each")
    parser.add_argument("--epochs", type=int, default=12, help="at most; training stops early")
    parser.add_argument("--predict-only", action="store_true", help="use the checkpoint in --out")
    args = parser.parse_args()

    checkpoint = args.out / "checkpoint"
    if not args.predict_only:
        start = time.perf_counter()
        examples = load_reviews() if args.data is None else parse_reviews(args.data.read_text())
        train_part, validation, test = split(examples)
        words = [
            word for word, _ in Counter(word for text in train_part.texts for word in tokenize(text)).most_common()
        ]
        print(f"{len(train_part.texts)} sentences to train on, {len(validation.texts)} to validate, ", end="")
        print(f"{len(test.texts)} to test; {len(words)} words")
        params, curves = train(train_part, validation, make_vocabulary(words), args.epochs)
        args.out.mkdir(parents=True, exist_ok=True)
        save(checkpoint, params, words)
        plot_curves(curves, args.out / "curves.png")
        params, vocabulary = load(checkpoint)
        predictions = {
            f"jaxseq, {MEMBERS} bidirectional GRUs": predict(params, encode(test.texts, vocabulary)).argmax(1),
            "TF-IDF + logistic regression": predict_by_words(train_part, validation, test),
            "majority class": np.full(len(test.labels), np.bincount(train_part.labels).argmax()),
        }
        print_scores(test.labels, predictions)
        print(f"\n{time.perf_counter() - start:.0f} s; wrote {args.out / 'curves.png'} and {checkpoint}")

    if not checkpoint.exists():
        parser.error(f"there is no checkpoint at {checkpoint}; run once without --predict-only")
    params, vocabulary = load(checkpoint)
    print()
    for sentence, (_, positive) in zip(
        args.sentences, predict(params, encode(args.sentences, vocabulary)), strict=True
    ):
        print(f"{'positive' if positive > 0.5 else 'negative'} {max(positive, 1 - positive):6.1%}  {sentence}")


if __name__ == "__main__":
    main()
