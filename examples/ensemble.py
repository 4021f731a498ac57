"""An ensemble trained in one step: ten classifiers that differ in their seed, against each of them alone.

    python -m examples.ensemble [--out runs/ensemble] [--members 10] [--seed 0] [--smoke]

In: the utterances of `examples/series_classification.py`, of which few are to be learned from: 8 of each speaker, so
that single models err. Out: the probabilities of the speakers, the mean of what the members say.

The members are one pytree whose leaves lead with an axis of members, made by `jax.vmap` over keys, and trained by one
step on the same batches. 8 utterances a speaker train, the other 22 of the training file say when to stop; the test
file is looked at once, by the members as they were stored. Told of each: accuracy, the cross-entropy (NLL), and the
expected calibration error (Guo et al. 2017): how far, on average over ten bins, confidence is from accuracy.
"""

import statistics
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from examples import options, out_folder, positive
from examples.series_classification import as_arrays, fit_normalizer, make_loss, make_model, make_optimizer
from examples.ts_files import japanese_vowels, made_up
from jaxseq import data, train

BATCH, NOISE, BINS = 24, 0.6, 10


def bins(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns share, mean confidence and accuracy `[3, BINS]` of the predictions in each bin of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count, *sums = (np.bincount(number, weights, BINS) for weights in (None, confidence, right))
    return np.stack([count / len(labels), *(total / np.maximum(count, 1) for total in sums)])


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy, NLL and expected calibration error of the probabilities `[N, K]`."""
    share, confidence, accuracy = bins(probabilities, labels)
    nll = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
    right = (probabilities.argmax(axis=1) == labels).mean()
    return {"accuracy": float(right), "NLL": float(nll), "ECE": float(np.sum(share * abs(confidence - accuracy)))}


def time_steps(together, alone, states, batch, rounds: int) -> tuple[float, float]:
    """Returns the seconds of one step of all members together, and of as many steps one after another: medians."""
    singles = [jax.tree.map(lambda leaf, m=m: leaf[m], states) for m in range(len(states.step))]
    seconds = {"together": [], "alone": []}
    for _ in range(rounds + 1):
        started = time.perf_counter()
        states = jax.block_until_ready(together(states, batch)[0])
        seconds["together"].append(time.perf_counter() - started)
        started = time.perf_counter()
        singles = jax.block_until_ready([alone(state, batch)[0] for state in singles])
        seconds["alone"].append(time.perf_counter() - started)
    return tuple(statistics.median(times[1:]) for times in seconds.values())  # the first round compiles


def plot(table: list[dict[str, float]], ensemble: dict[str, float], one, mean, path: Path) -> None:
    """Draws members and ensemble by each score, and how confidence and accuracy go together."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    *panels, reliability = figure.subplots(1, 4, width_ratios=[1, 1, 1, 2])
    for axes, name in zip(panels, ensemble, strict=True):
        values = [row[name] for row in table]
        axes.plot(np.linspace(-0.15, 0.15, len(values)), values, "o", alpha=0.5, label="members")
        axes.plot([-0.25, 0.25], [np.mean(values)] * 2, "C0-", label="their mean")
        axes.plot(0.6, ensemble[name], "C1D", markersize=9, label="ensemble")
        axes.set(title=name, xticks=[], xlim=(-0.5, 0.9))
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower left")
    for label, (share, confidence, accuracy), marker in (("members", one, "o"), ("ensemble", mean, "D")):
        shown = share > 0.02
        reliability.plot(confidence[shown], accuracy[shown], marker=marker, label=label)
    reliability.plot([0, 1], [0, 1], ":", color="0.5", label="calibrated")
    reliability.set(title="bins of at least 2 % of the test part", xlabel="confidence", ylabel="accuracy")
    reliability.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "ensemble")
    parser.add_argument("--members", type=positive, default=10, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "ensemble")
    started = time.perf_counter()
    cases, test = (made_up(96, 0), made_up(60, 1)) if args.smoke else japanese_vowels()
    size, steps, rounds = (8, 80, 3) if args.smoke else (32, 300, 20)
    share = 0.5 if args.smoke else 8 / 30
    features, classes = cases.sequences[0].shape[1], len(cases.classes)

    learned, held_out = data.split(len(cases.labels), (share, 1 - share), seed=args.seed, stratify=cases.labels)
    normalizer = fit_normalizer(cases, learned)
    batches = data.batches(as_arrays(cases, normalizer, learned), BATCH, seed=args.seed)
    validation, test_batch = as_arrays(cases, normalizer, held_out), as_arrays(test, normalizer)
    print(f"{len(learned)} utterances to train on, {len(held_out)} to validate, {len(test.labels)} to test")

    # All members at once: their params, their steps, their predictions.
    keys = jax.random.split(jax.random.key(args.seed), args.members)
    graph, _ = nnx.split(make_model(features, classes, size, keys[0]), nnx.Param)
    optimizer, loss_fn = make_optimizer(steps), make_loss(graph, NOISE)

    @jax.jit
    @jax.vmap
    def start(key):
        key_init, key = jax.random.split(key)
        return train.init(nnx.split(make_model(features, classes, size, key_init), nnx.Param)[1], optimizer, key)

    def predict(params, batch):
        return jax.nn.softmax(nnx.merge(graph, params)(batch["xs"], mask=batch["mask"]))

    each, together = jax.jit(jax.vmap(predict, in_axes=(0, None))), jax.jit(train.average(predict))

    def validate(members):
        mean = score(np.asarray(together(members, validation)), validation["labels"])
        return {"loss": mean["NLL"], "accuracy": mean["accuracy"]}

    step = train.make_step(loss_fn, optimizer, ensemble=True)
    result = train.fit(
        step,
        start(keys),
        batches,
        epochs=round(steps / len(batches)),
        every=steps // (2 if args.smoke else 10),
        validate=validate,
        checkpoints=train.Checkpoints(args.out / "checkpoints", settings={"seed": args.seed, "smoke": args.smoke}),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png", names=("loss", "accuracy"))
    info = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist(), "classes": cases.classes}
    train.save(args.out / "model", result.params, {**info, "size": size, "members": args.members})
    best = min(result.history, key=lambda row: row["validation/loss"])
    print(f"validation, ensemble: {best['validation/loss']:.3f} nats, {best['validation/accuracy']:.1%}", end="")
    print(f", at step {best['step']}")

    # The test part, once, by the members as they were stored.
    members = train.load(args.out / "model", result.params).tree
    of_each = np.asarray(each(members, test_batch))
    of_all = np.asarray(together(members, test_batch))
    table, ensemble = [score(member, test.labels) for member in of_each], score(of_all, test.labels)
    values = {name: np.array([row[name] for row in table]) for name in ensemble}
    print(f"\n{'test part':32}{'accuracy':>10}{'NLL':>8}{'ECE':>8}")
    rows = {"mean of the members": np.mean, "their standard deviation": np.std}
    for name, of in {**rows, "the best in each column": None}.items():
        best_of = {"accuracy": np.max, "NLL": np.min, "ECE": np.min}
        accuracy, nll, ece = ((of or best_of[score])(column) for score, column in values.items())
        print(f"{name:32}{accuracy:10.1%}{nll:8.3f}{ece:8.3f}")
    print(f"{f'ensemble of {args.members}':32}{ensemble['accuracy']:10.1%}{ensemble['NLL']:8.3f}{ensemble['ECE']:8.3f}")
    one = bins(of_each.reshape(-1, classes), np.tile(test.labels, args.members))
    plot(table, ensemble, one, bins(of_all, test.labels), args.out / "scores.png")
    batch = next(batches.epoch(0))
    vmapped, apart = time_steps(step, train.make_step(loss_fn, optimizer), start(keys), batch, rounds)
    print(f"one step of {args.members} members: {1e3 * vmapped:.1f} ms; {args.members} steps of one: ", end="")
    print(f"{1e3 * apart:.1f} ms, {apart / vmapped:.2f} times that")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
