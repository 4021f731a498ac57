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

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import jaxseq
from examples import options, out_folder, reviews
from examples.sentiment import BATCH, EMBEDDING, LANGUAGES, OPTIMIZER, UNKNOWN, predict_by_ngrams
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

SEEDS, DROPPED = 3, 0.3  # the share of a text's words that is dropped in training
ENGLISH = LANGUAGES["en"]
Make = Callable[[int, nnx.Rngs], nnx.Module]  # a net, from the size of the vocabulary


def text_cnn(filters: int, dropout: float) -> Make:
    given = {"widths": (2, 3, 4), "filters": filters, "dropout": dropout}
    return lambda size, rngs: nn.TextCNN(EMBEDDING, 2, vocabulary=size, **given, rngs=rngs)


def bidirectional_gru(hidden: int, dropout: float) -> Make:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(hidden)), inputs=dropout)
    given = {"pooling": "mean_max"}
    return lambda size, rngs: nn.SequenceClassifier(net, EMBEDDING, 2, vocabulary=size, **given, rngs=rngs)


NETS = {"TextCNN": text_cnn(100, 0.5), "BiGRU": bidirectional_gru(32, 0.7)}


def make_loss(graph: nnx.GraphDef) -> Callable:
    def loss_fn(params, batch, key):
        words_key, net_key = (None, None) if key is None else jax.random.split(key)
        ids = data.token_dropout(words_key, batch["xs"], DROPPED, UNKNOWN, mask=batch["mask"])
        logits = nnx.merge(graph, params)(ids, mask=batch["mask"], key=net_key)
        smoothing = 0.0 if key is None else 0.1
        loss = losses.cross_entropy(logits, batch["labels"], smoothing=smoothing, mask=batch["real"])
        accuracy = metrics.accuracy(logits.argmax(-1), batch["labels"], mask=batch["real"])
        return metrics.mean(loss, mask=batch["real"]), {"accuracy": accuracy}

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
        best = min(run.history, key=lambda row: row["validation/loss"])
        print(f"{name}, seed {seed}: {run.history[-1]['seconds']:.0f} s, best epoch {best['epoch']:.0f}, ", end="")
        print(f"validation loss {best['validation/loss']:.3f}, accuracy {best['validation/accuracy']:.1%}", flush=True)
        runs.append(run)
    return runs


def load(folder: Path, make: Make) -> list[nnx.Module]:
    """Returns the models that are stored, one a seed."""
    graph, like = nnx.split(make(len(train.load_info(folder)["vocabulary"]["tokens"]), nnx.Rngs(0)), nnx.Param)
    return [nnx.merge(graph, params) for params in train.load(folder, [like] * SEEDS).tree]


@nnx.jit
def classify(model: nnx.Module, xs: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns logits `[N, 2]` of ids `[N, T]`."""
    return model(xs, mask=mask)


@nnx.jit
def matches(model: nn.TextCNN, xs: jax.Array, mask: jax.Array) -> list[jax.Array]:
    """Returns how well each filter matches the phrase that begins at each word, `[N, T, F]` for each width."""
    words = jnp.where(mask[..., None], model.embedding(xs), 0)
    return [jnp.where(mask[..., None], jax.nn.relu(conv(words)), 0) for conv in model.convs]


def additions(model: nn.TextCNN, xs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns what each word adds to the log-odds of "positive", `[N, T]`; with the head's bias these are their sum.

    What a filter's strongest match adds is that of a phrase; its words have equal shares.
    """
    kernel = np.asarray(model.head.kernel[...])
    weights = np.split(kernel[:, 1] - kernel[:, 0], len(model.convs))
    added = np.zeros(xs.shape)
    rows, lengths = np.arange(len(xs))[:, None], mask.sum(axis=1)[:, None]
    for conv, found, weight in zip(model.convs, matches(model, xs, mask), weights, strict=True):
        starts, strongest = np.asarray(found.argmax(axis=1)), np.asarray(found.max(axis=1))  # [N, F]
        width = conv.kernel_size[0]
        words = np.minimum(lengths - starts, width)  # a phrase may reach beyond the end
        for offset in range(width):
            share = np.where(offset < words, strongest * weight / words, 0)
            np.add.at(added, (rows, np.minimum(starts + offset, xs.shape[1] - 1)), share)
    return added


def print_filters(model: nn.TextCNN, texts: list[list[str]], xs: np.ndarray, mask: np.ndarray, count: int) -> None:
    """Prints the filters that add most to one side, and the phrases of the texts that match each best."""
    kernel = np.asarray(model.head.kernel[...])
    weights = np.split(kernel[:, 1] - kernel[:, 0], len(model.convs))
    print("\nfilters that add most, and what they match best in the test part")
    rows = []
    for conv, found, weight in zip(model.convs, map(np.asarray, matches(model, xs, mask)), weights, strict=True):
        for f in range(found.shape[2]):
            best = np.unravel_index(np.argsort(-found[..., f], axis=None)[:20], mask.shape)
            phrases = [" ".join(texts[n][t : t + conv.kernel_size[0]]) for n, t in zip(*best, strict=True)]
            rows.append((found[..., f].max() * weight[f], list(dict.fromkeys(phrases))[:4]))
    rows.sort(key=lambda row: -row[0])
    for added, phrases in rows[:count] + rows[-count:]:
        print(f"{added:+5.2f}  " + " | ".join(phrases))


def plot_phrases(texts: list[list[str]], added: np.ndarray, titles: list[str], path: Path, columns: int = 90) -> None:
    """Draws texts, as wide as so many letters, whose words are coloured by what each adds: blue more, red less."""
    size = 10 / 72 * 0.602  # inches that a letter of 10 points is wide
    figure, scale, line = Figure(), np.abs(added).max(), 0
    axes = figure.add_axes((0, 0, 1, 1))
    font = {"family": "monospace", "fontsize": 10, "verticalalignment": "center"}
    for words, values, title in zip(texts, added, titles, strict=True):
        axes.text(1, line, title, fontsize=9, color="0.4", verticalalignment="center")
        line, column = line + 1, 1
        for word, value in zip(words, values, strict=False):
            if column + len(word) >= columns:
                line, column = line + 1, 1
            box = {"facecolor": colormaps["RdBu"](0.5 + 0.4 * value / scale), "edgecolor": "none", "pad": 1.5}
            axes.text(column, line, word, bbox=box, **font)
            column += len(word) + 1
        line += 2
    axes.text(1, line, "blue speaks for positive, red for negative", fontsize=9, style="italic", color="0.4")
    axes.set(xlim=(0, columns), ylim=(line + 1, -1))
    axes.axis("off")
    figure.set_size_inches(columns * size, (line + 2) * 0.22)
    figure.savefig(path, dpi=150)


def scores(labels: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Returns accuracy, and precision, recall and F1 of "positive"."""
    three = precision_recall_fscore_support(labels, predicted, average="binary", zero_division=0)[:3]
    return [accuracy_score(labels, predicted), *three]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "text_cnn")
    parser.add_argument("--seed", type=int, default=0, help="of the first model of each kind; default %(default)s")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "text_cnn")
    started = time.perf_counter()
    texts = reviews.made_up(*ENGLISH.made_up, 300) if args.smoke else reviews.english("movie")
    training, validation, test = parts = texts.split()
    vocabulary = data.Vocabulary.build(map(data.words, training.texts))
    print(f"{len(training.texts)} texts to train on, {len(validation.texts)} to validate, ", end="")
    print(f"{len(test.texts)} to test; {len(vocabulary)} tokens")
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
    print(f"\n{'test part':30}{'accuracy':>13}{'precision':>13}{'recall':>13}{'F1':>13}{'seconds':>9}{'params':>11}")
    words = [data.words(text) for text in test.texts]
    xs, mask = data.pad([vocabulary.encode(tokens) for tokens in words], multiple=16)
    models = {name: load(args.out / name / "model", make) for name, make in NETS.items()}
    for name, members in models.items():
        predicted = [np.asarray(classify(model, xs, mask).argmax(-1)) for model in members]
        found = [scores(test.labels, row) for row in predicted]
        pairs = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        row = "".join(f"{100 * mean:6.1f}% ± {100 * deviation:3.1f}" for mean, deviation in pairs)
        seconds = np.mean([run.history[-1]["seconds"] for run in runs[name]])
        size = sum(leaf.size for leaf in jax.tree.leaves(runs[name][0].params))
        print(f"{f'{name}, {SEEDS} seeds':30}{row}{seconds:9.1f}{size:11,}")
    baselines = {"TF-IDF + logistic regression": predict_by_ngrams(ENGLISH.ngrams, training, validation, test.texts)}
    baselines["majority class"] = np.full(len(test.labels), np.bincount(training.labels).argmax())
    for name, row in baselines.items():
        print(f"{name:30}" + "      ".join(f"{100 * score:6.1f}%" for score in scores(test.labels, row)))

    # What the first TextCNN decides by: its surest decisions, and those that were most wrong.
    model = models["TextCNN"][0]
    print_filters(model, words, xs, mask, 5)
    positive = np.asarray(jax.nn.softmax(classify(model, xs, mask))[:, 1])
    order, right = np.argsort(positive), np.where(test.labels, positive, 1 - positive)
    shown = [*order[:-4:-1], *order[:3], *np.argsort(right)[:3]]
    names = np.array(["negative", "positive"])
    titles = [f"labelled {names[test.labels[n]]}; the TextCNN: {positive[n]:.1%} positive" for n in shown]
    added = additions(model, xs[shown], mask[shown])
    plot_phrases([words[n] for n in shown], added, titles, args.out / "phrases.png")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
