"""Digits read pixel by pixel: 784 steps, one number each, by an LSTM, an S5, a TCN and a Transformer.

    python -m examples.pixel_digits [--nets ...] [--out runs/pixel_digits] [--seed 0] [--smoke]

In: a handwritten digit, 28 × 28 pixels, row after row, one pixel a step, `[B, 784, 1]`. Out: which digit it is. No net
is told that the sequence is a picture: what stands below a pixel comes 28 steps later. The data are 5,000 digits of
MNIST, 500 of each, see `examples/data/mnist.py`: 4,000 train, 500 choose, 500 test.

The nets differ in how they reach back. An LSTM carries all in its memory, with gates that start by keeping it for up to
784 steps. S5 has linear recurrences, the same at every step, which ring at many frequencies and fade slowly; the MLPs
between them are what is nonlinear. A TCN looks through convolutions whose dilations double, until 784 steps are in
sight. A Transformer looks at all steps at once, later ones too, at a cost that grows with their square. The outputs of
all steps are averaged and classified, so that the causal ones have read the whole digit as well. The optimiser takes
the fewer steps the dearer one is: each net has some minutes on two CPU cores. What a step takes is measured before,
of all nets in turns. In training, digits are shifted by up to two pixels to each side.

The params with the lowest cross-entropy on the validation part are stored and read again. They see the test part once,
beside a logistic regression on the 784 pixels, whose strength is chosen on the validation part.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

import jaxseq
from examples import options, out_folder
from examples.data.mnist import made_up, mnist
from examples.shared.feed_forward import mlp
from examples.shared.timed_steps import Run, least_seconds
from jaxseq import data, diagnostics, nn, train

BATCH, EVALUATED, SHIFT = 16, 20, 2  # digits; digits; pixels
SHOWN = {False: (3, 5, 8), True: (2,)}  # classes; of a smoke run


class Net(NamedTuple):
    layer: Callable[[int, nnx.Rngs], jaxseq.Cell | jaxseq.Composite | nn.Layer]  # of the number of steps T
    rate: float  # Adam's highest
    steps: int


def lstm(T: int, rngs: nnx.Rngs, size: int) -> jaxseq.Cell:
    return jaxseq.lstm(size, forget_bias=jaxseq.initializers.chrono(T))


def s5(_: int, rngs: nnx.Rngs, size: int, state: int, layers: int) -> jaxseq.Composite:
    first, *others = [part for _ in range(layers) for part in (jaxseq.s5(size, state=state), mlp(size))]
    return jaxseq.stack(first, *map(jaxseq.residual, others))


def tcn(T: int, rngs: nnx.Rngs, size: int) -> nn.TCN:
    blocks = math.ceil(math.log2((T + 3) / 4))  # the receptive field, 1 + 4 (2^blocks - 1), reaches T
    return nn.TCN(1, [size] * blocks, rngs=rngs)


def transformer(_: int, rngs: nnx.Rngs, size: int, layers: int) -> nn.Transformer:
    return nn.Transformer(1, size, layers=layers, heads=1, causal=False, rngs=rngs)


NETS = {
    "LSTM": Net(partial(lstm, size=64), 1e-2, 3000),
    "S5": Net(partial(s5, size=32, state=16, layers=3), 8e-3, 2000),
    "TCN": Net(partial(tcn, size=16), 5e-3, 2750),
    "Transformer": Net(partial(transformer, size=64, layers=1), 5e-3, 2000),
}
SMOKE = {
    "LSTM": Net(partial(lstm, size=8), 2e-2, 180),
    "S5": Net(partial(s5, size=8, state=4, layers=2), 2e-2, 120),
    "TCN": Net(partial(tcn, size=4), 2e-2, 120),
    "Transformer": Net(partial(transformer, size=8, layers=1), 2e-2, 120),
}


def split(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the numbers of the digits to train, to validate and to test, of each class the same share."""
    return data.split(len(labels), (0.8, 0.1, 0.1), seed=0, stratify=labels)


def as_arrays(
    pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, normalizer: data.Normalizer
) -> dict[str, np.ndarray]:
    """Returns the digits numbered `rows` as normalised sequences `[N, T, 1]`, and their labels."""
    return {"xs": normalizer.apply(pixels[rows, :, None].astype(np.float32)), "labels": labels[rows]}


def shift(key: jax.Array | None, xs: jax.Array) -> jax.Array:
    """Returns the digits `[B, T, 1]` moved by up to SHIFT pixels to any side; without a key as they are.

    What a digit's picture is moved by, its sequence is too, a row being √T steps; what leaves at one end, mostly blank,
    comes back at the other.
    """
    if key is None:
        return xs
    down, right = jax.random.randint(key, (2, len(xs)), -SHIFT, SHIFT + 1)
    return jax.vmap(lambda x, by: jnp.roll(x, by, axis=0))(xs, math.isqrt(xs.shape[1]) * down + right)


def make_model(net: Net, T: int, classes: int, key: jax.Array) -> nn.SequenceClassifier:
    rngs = nnx.Rngs(key)
    return nn.SequenceClassifier(net.layer(T, rngs), 1, classes, pooling="mean", rngs=rngs)


def make_loss(graph: nnx.GraphDef) -> Callable:
    def loss_fn(params, batch, key):
        logits = nnx.merge(graph, params)(shift(key, batch["xs"]))
        nll = train.losses.cross_entropy(logits, batch["labels"])
        return train.metrics.mean(nll), {"accuracy": train.metrics.accuracy(logits.argmax(-1), batch["labels"])}

    return loss_fn


def make_optimizer(rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0, rate, steps // 20, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


def make_run(net: Net, T: int, classes: int, seed: int) -> tuple[Run, nnx.GraphDef, Callable]:
    """Returns the step and the start of a net's training, its graph and its loss."""
    key_init, key = jax.random.split(jax.random.key(seed))
    graph, params = nnx.split(make_model(net, T, classes, key_init), nnx.Param)
    loss_fn, optimizer = make_loss(graph), make_optimizer(net.rate, net.steps)
    return Run(train.make_step(loss_fn, optimizer), lambda: train.init(params, optimizer, key)), graph, loss_fn


def plot_accuracy(histories: dict[str, list[dict[str, float]]], linear: float, path: Path) -> None:
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        seconds, accuracy = ([row[key] for row in history] for key in ("seconds", "validation/accuracy"))
        axes.plot(seconds, accuracy, marker="o", markersize=3, label=name)
    axes.axhline(linear, color="0.5", linestyle="--", label="logistic regression")
    axes.set(xlabel="seconds of training", ylabel="accuracy", ylim=(0, 1), title="Validation part")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def plot_confusion(counts: dict[str, np.ndarray], path: Path) -> None:
    figure = Figure(figsize=(4 * len(counts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (name, table) in zip(panels, counts.items(), strict=True):
        axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(table):
            if count:
                color = "white" if 2 * count > table[row].sum() else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
        axes.set(xticks=range(len(table)), yticks=range(len(table)), xlabel="predicted", title=name)
    figure.axes[0].set(ylabel="is")
    figure.suptitle("Decisions on the test part", fontsize="medium")
    figure.savefig(path, dpi=150)


def plot_saliency(digits: np.ndarray, attributions: dict[str, np.ndarray], path: Path) -> None:
    """Draws digits `[N, T, 1]`, and what each of their pixels added to the logit of what they are."""
    side = math.isqrt(digits.shape[1])
    figure = Figure(figsize=(2.2 * (1 + len(attributions)), 2.3 * len(digits)), layout="constrained")
    columns = {"digit": digits, **attributions}
    for panels, (name, values) in zip(
        figure.subplots(len(digits), len(columns), squeeze=False).T, columns.items(), strict=True
    ):
        for axes, value in zip(panels, values, strict=True):
            largest = np.max(np.abs(value))
            colors = {"cmap": "gray_r"} if name == "digit" else {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
            axes.imshow(value.reshape(side, side), **colors)
            axes.set(xticks=[], yticks=[])
        panels[0].set_title(name, fontsize="medium")
    figure.suptitle("Integrated gradients: red adds to the logit of the digit, blue takes from it", fontsize="medium")
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "pixel_digits")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="to train; default: all")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "pixel_digits")
    started = time.perf_counter()
    pixels, labels = made_up(600) if args.smoke else mnist()
    nets, strengths, rounds, rows = (SMOKE, (0.01,), 3, 2) if args.smoke else (NETS, (1e-3, 3e-3, 1e-2, 3e-2), 20, 10)
    T, classes = pixels.shape[1], int(labels.max()) + 1
    numbers = split(labels)
    normalizer = data.Normalizer.fit(pixels[numbers[0]].reshape(-1, 1))
    learned, validation, test = (as_arrays(pixels, labels, rows, normalizer) for rows in numbers)
    print(f"{', '.join(str(len(rows)) for rows in numbers)} digits to train, to validate and to test; {T} steps each")

    # The baseline, whose strength the validation part chooses.
    fits = [LogisticRegression(C=c, max_iter=1000).fit(learned["xs"][..., 0], learned["labels"]) for c in strengths]
    scores = [fit.score(validation["xs"][..., 0], validation["labels"]) for fit in fits]
    linear = fits[int(np.argmax(scores))]
    print(f"logistic regression, C = {linear.C}: validation accuracy {max(scores):.1%}", flush=True)

    # Nets alike but for the layer, rate and steps; each stored and read again.
    made = {name: make_run(net, T, classes, args.seed) for name, net in nets.items()}
    loader = data.batches(learned, BATCH, seed=args.seed)
    seconds = least_seconds({name: run for name, (run, *_) in made.items()}, next(loader.epoch(0)), rounds)
    for name, net in nets.items():
        print(f"{name}: {net.steps:,} steps of {1e3 * seconds[name]:.1f} ms are {net.steps * seconds[name]:.0f} s")
    models, histories, costs = {}, {}, {}
    for name in args.nets:
        net, (run, graph, loss_fn) = nets[name], made[name]
        settings = [args.seed, args.smoke, net.rate, net.steps]
        result = train.fit(
            run.step,
            run.start(),
            loader,
            epochs=round(net.steps / len(loader)),
            every=net.steps // rows,
            validate=train.evaluator(loss_fn, data.batches(validation, EVALUATED)),
            checkpoints=train.Checkpoints(args.out / "checkpoints" / name, keep=1, settings=settings),
            progress=True,
        )
        info = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist(), "steps": T, "classes": classes}
        train.save(args.out / "model" / name, result.params, info)
        models[name] = nnx.merge(graph, train.load(args.out / "model" / name, result.params).tree)
        histories[name] = result.history
        best = min(result.history, key=lambda row: row["validation/loss"])
        print(f"{name}: validation accuracy {best['validation/accuracy']:.1%} at step {best['step']}, ", end="")
        print(f"of {result.history[-1]['step']} in {result.history[-1]['seconds']:.0f} s", flush=True)
        size = sum(leaf.size for leaf in jax.tree.leaves(result.params))
        costs[name] = f"{size:10,}{1e3 * seconds[name]:11.1f}"
    plot_accuracy(histories, max(scores), args.out / "accuracy.png")

    # What each net looks at, in digits of the validation part.
    shown = [int(np.flatnonzero(validation["labels"] == label)[0]) for label in SHOWN[args.smoke]]
    digits, is_digit = jnp.asarray(validation["xs"][shown]), jnp.asarray(validation["labels"][shown])
    blank = jnp.full_like(digits, validation["xs"].min())

    @nnx.jit
    def attribute(model):
        of_digits = jnp.arange(len(shown)), is_digit
        return diagnostics.integrated_gradients(lambda xs: model(xs)[of_digits], digits, baseline=blank)

    plot_saliency(
        validation["xs"][shown], {name: attribute(models[name]) for name in models}, args.out / "saliency.png"
    )

    # The test part, once.
    classify, truth = nnx.jit(lambda model, xs: model(xs)), jnp.asarray(test["labels"])
    batches = np.split(test["xs"], len(truth) // EVALUATED)
    logits = {name: np.concatenate([classify(model, xs) for xs in batches]) for name, model in models.items()}
    logits["logistic regression"] = linear.predict_log_proba(test["xs"][..., 0])
    logits["most frequent"] = np.tile(np.log(np.bincount(learned["labels"]) / len(learned["labels"])), (len(truth), 1))
    found = {
        name: train.metrics.confusion(jnp.asarray(rows.argmax(-1)), truth, classes) for name, rows in logits.items()
    }
    print(f"\n{'test part':22}{'parameters':>10}{'ms a step':>11}", end="")
    print(f"{'accuracy':>10}{'precision':>11}{'recall':>8}{'F1':>8}{'NLL':>8}")
    for name in sorted(found, key=lambda name: -found[name].accuracy):
        nll = train.losses.cross_entropy(jnp.asarray(logits[name]), truth).mean()
        precision, recall, f1 = found[name].macro
        print(f"{name:22}{costs.get(name, ''):21}{found[name].accuracy:10.1%}", end="")
        print(f"{precision:11.1%}{recall:8.1%}{f1:8.1%}{nll:8.3f}")
    plot_confusion({name: np.asarray(found[name].counts) for name in models}, args.out / "confusion.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
