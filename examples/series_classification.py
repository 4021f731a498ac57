"""Who speaks? Classification of whole sequences: from a `.ts` file to a saved, reloaded and evaluated model.

    python -m examples.series_classification [--out runs/series_classification] [--seed 0] [--smoke]

In: an utterance, 12 numbers a frame, 7 to 29 frames. Out: which of nine speakers it is. The data are Japanese Vowels,
see `examples/data/ts_files.py`: 270 utterances to train on, 370 to test.

A bidirectional GRU reads the frames, its outputs are averaged over the real ones, dropped out and classified. Every
frame is normalised by the mean and deviation of the part to train on, and in training noise is added to it. How much is
chosen by five folds of the training file, stratified by speaker: the level with the lowest cross-entropy on what was
held out. Then the whole file trains three models, which differ in their seed, for as many steps. The test file is
looked at once, by these three as they were stored, beside a logistic regression on each utterance's mean, first and
last frame, whose strength is chosen by the same folds, and the most frequent speaker.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from examples import options, out_folder
from examples.baselines import frames
from examples.data.ts_files import as_arrays, fit_normalizer, japanese_vowels, made_up
from examples.reports.confusion import plot_confusion, print_scores
from examples.shared.series_classifiers import make_loss, make_model, make_optimizer
from jaxseq import data, train

BATCH = 32


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "series_classification")
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
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
    predictions |= {"logistic regression": frames.predict(train_part, test, folds), "most frequent": majority}
    found = {name: train.metrics.confusion(jnp.asarray(row), labels, classes) for name, row in predictions.items()}
    table = {name: np.array([scores.accuracy, *scores.macro]) for name, scores in found.items()}
    table = {**table, "GRU, mean of three": np.mean(list(table.values())[:3], axis=0)}
    print_scores(table)
    counts = np.sum([scores.counts for scores in list(found.values())[:3]], axis=0)
    plot_confusion(counts, test.classes, args.out / "confusion.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
