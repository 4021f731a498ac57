"""Who speaks? Classification of whole sequences: from a `.ts` file to a saved, reloaded and evaluated model.

    python -m examples.series_classification [--out runs/series_classification] [--seed 0] [--smoke]

In: an utterance, 12 numbers a frame, 7 to 29 frames. Out: which of nine speakers it is. The data are Japanese Vowels,
see `examples/ts_files.py`: 270 utterances to train on, 370 to test.

A bidirectional GRU reads the frames, its outputs are averaged over the real ones, dropped out and classified. Every
frame is normalised by the mean and deviation of the part to train on, and in training noise is added to it. How much is
chosen by five folds of the training file, stratified by speaker: the level with the lowest cross-entropy on what was
held out. Then the whole file trains three models, which differ in their seed, for as many steps. The test file is
looked at once, by these three as they were stored, beside a logistic regression on each utterance's mean, first and
last frame, whose strength is chosen by the same folds, and the most frequent speaker.
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import jaxseq
from examples import options, out_folder
from examples.ts_files import Cases, japanese_vowels, made_up
from jaxseq import data, nn, train

FRAMES, BATCH = 32, 32


def make_model(features: int, classes: int, size: int, key: jax.Array) -> nn.SequenceClassifier:
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(size)), outputs=0.5)
    return nn.SequenceClassifier(net, features, classes, pooling="mean", rngs=nnx.Rngs(key))


def make_loss(graph: nnx.GraphDef, noise: float) -> Callable:
    """Returns the loss function; `noise` is added in training, in deviations of each feature."""

    def loss_fn(params, batch, key):
        key_noise, key_dropout = (None, None) if key is None else jax.random.split(key)
        xs = data.jitter(key_noise, batch["xs"], noise, mask=batch["mask"])
        logits = nnx.merge(graph, params)(xs, mask=batch["mask"], key=key_dropout)
        nll = train.losses.cross_entropy(logits, batch["labels"])
        return train.metrics.mean(nll), {"accuracy": train.metrics.accuracy(logits.argmax(-1), batch["labels"])}

    return loss_fn


def make_optimizer(steps: int) -> optax.GradientTransformation:
    adam = optax.adamw(optax.cosine_decay_schedule(4e-3, steps), weight_decay=1e-2)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def fit_normalizer(cases: Cases, rows: np.ndarray | None = None) -> data.Normalizer:
    """Returns the normaliser of all frames of the cases numbered `rows`; None: of all."""
    rows = np.arange(len(cases.labels)) if rows is None else rows
    return data.Normalizer.fit(np.concatenate([cases.sequences[row] for row in rows]))


def as_arrays(cases: Cases, normalizer: data.Normalizer, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Returns the cases numbered `rows`, padded: one shape for all, as the longest have 29 frames. None: all."""
    rows = np.arange(len(cases.labels)) if rows is None else rows
    xs, mask = data.pad([normalizer.apply(cases.sequences[row]) for row in rows], length=FRAMES)
    return {"xs": xs, "mask": mask, "labels": cases.labels[rows]}


def by_frames(train_part: Cases, test: Cases, folds: int) -> np.ndarray:
    """The baseline: logistic regression on mean, first and last frame; returns its predictions of the test part."""
    features, test_features = (
        np.array([np.concatenate([xs.mean(0), xs[0], xs[-1]]) for xs in cases.sequences])
        for cases in (train_part, test)
    )
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)) for c in (0.01, 0.1, 1.0, 10.0, 100.0)
    ]
    scores = [cross_val_score(model, features, train_part.labels, cv=folds).mean() for model in models]
    return models[int(np.argmax(scores))].fit(features, train_part.labels).predict(test_features)


def plot_confusion(counts: np.ndarray, classes: list[str], path: Path) -> None:
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if row == column else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
    ticks = {"xticks": range(len(classes)), "yticks": range(len(classes))}
    axes.set(**ticks, xticklabels=classes, yticklabels=classes, xlabel="predicted", ylabel="is")
    axes.set_title("Decisions on the test part, three models together", fontsize="medium")
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "series_classification")
    parser.add_argument("--seed", type=int, default=0, help="of the first model; default %(default)s")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "series_classification")
    started = time.perf_counter()
    train_part, test = (made_up(96, 0), made_up(60, 1)) if args.smoke else japanese_vowels()
    folds, size, steps, rows, levels = (2, 8, 120, 2, (0.3,)) if args.smoke else (5, 48, 400, 10, (0.0, 0.6))
    features, classes = train_part.sequences[0].shape[1], len(train_part.classes)
    print(f"{len(train_part.labels)} utterances to train on, {len(test.labels)} to test, {classes} classes")

    graph, _ = nnx.split(make_model(features, classes, size, jax.random.key(0)), nnx.Param)
    optimizer = make_optimizer(steps)
    losses = {noise: make_loss(graph, noise) for noise in levels}
    step_of = {noise: train.make_step(loss_fn, optimizer) for noise, loss_fn in losses.items()}

    def fit(name, noise, arrays, seed, held_out=None):
        key_init, key = jax.random.split(jax.random.key(seed))
        params = nnx.split(make_model(features, classes, size, key_init), nnx.Param)[1]
        loader = data.batches(arrays, BATCH, seed=seed)
        validate = None if held_out is None else train.evaluator(losses[noise], [held_out])
        return train.fit(
            step_of[noise],
            train.init(params, optimizer, key),
            loader,
            epochs=round(steps / len(loader)),
            every=steps // rows,
            validate=validate,
            checkpoints=train.Checkpoints(args.out / "checkpoints" / name, keep=1, settings=[seed, args.smoke]),
            progress=True,
        )

    # How much noise? What each fold holds out says; its score is that of the last step, not of the best one.
    parts = data.split(len(train_part.labels), [1 / folds] * folds, seed=0, stratify=train_part.labels)
    chosen, lowest = 0.0, np.inf
    for noise in levels:
        histories = []
        for number, held_out in enumerate(parts):
            rest = np.setdiff1d(np.arange(len(train_part.labels)), held_out)
            normalizer = fit_normalizer(train_part, rest)
            held_out = as_arrays(train_part, normalizer, held_out)
            name = f"noise-{noise}-fold-{number}"
            histories.append(fit(name, noise, as_arrays(train_part, normalizer, rest), args.seed, held_out).history)
        nll, accuracy = (
            np.mean([history[-1][f"validation/{name}"] for history in histories]) for name in ("loss", "accuracy")
        )
        print(f"noise {noise}: held-out cross-entropy {nll:.3f}, accuracy {accuracy:.1%}", flush=True)
        if nll < lowest:
            chosen, lowest = noise, nll
            train.curves.plot(histories[0], args.out / "curves.png", names=("loss", "accuracy"))

    # Three models of the whole training file, stored and read again.
    normalizer = fit_normalizer(train_part)
    arrays = as_arrays(train_part, normalizer)
    trained = [fit(f"seed-{seed}", chosen, arrays, seed).params for seed in range(args.seed, args.seed + 3)]
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)
    info = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist(), "classes": train_part.classes}
    train.save(args.out / "model", members, {**info, "size": size, "noise": chosen})
    members, info = train.load(args.out / "model", members)

    # The test part, once.
    normalizer = data.Normalizer(np.array(info["mean"]), np.array(info["std"]))
    batch, labels = jax.tree.map(jnp.asarray, (as_arrays(test, normalizer), test.labels))
    classify = jax.vmap(lambda params: nnx.merge(graph, params)(batch["xs"], mask=batch["mask"]))
    predicted = jax.jit(classify)(members).argmax(-1)
    majority = np.full(len(test.labels), np.bincount(train_part.labels).argmax())
    predictions = {f"GRU, seed {args.seed + number}": row for number, row in enumerate(predicted)}
    predictions |= {"logistic regression": by_frames(train_part, test, folds), "most frequent": majority}
    found = {name: train.metrics.confusion(jnp.asarray(row), labels, classes) for name, row in predictions.items()}
    table = {name: np.array([scores.accuracy, *scores.macro]) for name, scores in found.items()}
    table = {**table, "GRU, mean of three": np.mean(list(table.values())[:3], axis=0)}
    print(f"\n{'test part':22}{'accuracy':>10}{'precision':>11}{'recall':>8}{'F1':>8}  (macro)")
    for name in sorted(table, key=lambda name: -table[name][0]):
        accuracy, precision, recall, f1 = table[name]
        print(f"{name:22}{accuracy:10.1%}{precision:11.1%}{recall:8.1%}{f1:8.1%}")
    counts = np.sum([scores.counts for scores in list(found.values())[:3]], axis=0)
    plot_confusion(counts, test.classes, args.out / "confusion.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
