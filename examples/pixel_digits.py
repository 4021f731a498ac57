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
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import pixels as baseline
from examples.data.mnist import as_arrays, made_up, mnist, shift, split
from examples.reports import digits
from examples.shared.feed_forward import mlp
from examples.shared.timed_steps import Run, least_seconds
from jaxseq import data, nn, train

BATCH, EVALUATED = 16, 20  # digits


class Net(NamedTuple):
    layer: Callable[[int, nnx.Rngs], Any]  # a net or layer, of the number of steps T
    rate: float  # Adam's highest
    steps: int


def s5(_: int, rngs: nnx.Rngs, size: int, state: int, layers: int) -> jaxseq.Composite:
    first, *others = [part for _ in range(layers) for part in (jaxseq.s5(size, state=state), mlp(size))]
    return jaxseq.stack(first, *map(jaxseq.residual, others))


def tcn(T: int, rngs: nnx.Rngs, size: int) -> nn.TCN:
    blocks = math.ceil(math.log2((T + 3) / 4))  # the receptive field, 1 + 4 (2^blocks - 1), reaches T
    return nn.TCN(1, [size] * blocks, rngs=rngs)


NETS = {
    "LSTM": Net(lambda T, _: jaxseq.lstm(64, forget_bias=jaxseq.initializers.chrono(T)), 1e-2, 3000),
    "S5": Net(partial(s5, size=32, state=16, layers=3), 8e-3, 2600),
    "TCN": Net(partial(tcn, size=16), 5e-3, 2750),
    "Transformer": Net(lambda _, rngs: nn.Transformer(1, 64, layers=1, heads=1, causal=False, rngs=rngs), 5e-3, 2000),
}
SMOKE = {
    "LSTM": Net(lambda T, _: jaxseq.lstm(8, forget_bias=jaxseq.initializers.chrono(T)), 2e-2, 180),
    "S5": Net(partial(s5, size=8, state=4, layers=2), 2e-2, 120),
    "TCN": Net(partial(tcn, size=4), 2e-2, 120),
    "Transformer": Net(lambda _, rngs: nn.Transformer(1, 8, layers=1, heads=1, causal=False, rngs=rngs), 2e-2, 120),
}


def make_loss(graph: nnx.GraphDef) -> Callable:
    def loss_fn(params, batch, key):
        logits = nnx.merge(graph, params)(shift(key, batch["xs"]))
        nll = train.losses.cross_entropy(logits, batch["labels"])
        return train.metrics.mean(nll), {"accuracy": train.metrics.accuracy(logits.argmax(-1), batch["labels"])}

    return loss_fn


def make_run(net: Net, T: int, classes: int, seed: int) -> tuple[Run, nnx.GraphDef, Callable]:
    """Returns the step and the start of a net's training, its graph and its loss."""
    key_init, key = jax.random.split(jax.random.key(seed))
    rngs = nnx.Rngs(key_init)
    model = nn.SequenceClassifier(net.layer(T, rngs), 1, classes, pooling="mean", rngs=rngs)
    graph, params = nnx.split(model, nnx.Param)
    schedule = optax.warmup_cosine_decay_schedule(0, net.rate, net.steps // 20, net.steps)
    loss_fn, optimizer = make_loss(graph), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    return Run(train.make_step(loss_fn, optimizer), lambda: train.init(params, optimizer, key)), graph, loss_fn


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "pixel_digits")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), help="to train; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out, started = out_folder(args, "pixel_digits"), time.perf_counter()
    pixels, labels = made_up(600) if args.smoke else mnist()
    nets, strengths, rounds, rows = (SMOKE, (0.01,), 3, 2) if args.smoke else (NETS, (1e-3, 3e-3, 1e-2, 3e-2), 20, 10)
    T, classes, numbers = pixels.shape[1], int(labels.max()) + 1, split(labels)
    normalizer = data.Normalizer.fit(pixels[numbers[0]].reshape(-1, 1))
    learned, validation, test = (as_arrays(pixels, labels, rows, normalizer) for rows in numbers)
    print(f"{', '.join(str(len(rows)) for rows in numbers)} digits to train, to validate and to test; {T} steps each")
    linear, accuracy = baseline.fit(learned, validation, strengths)
    print(f"logistic regression, C = {linear.C}: validation accuracy {accuracy:.1%}", flush=True)

    # Nets alike but for the layer, rate and steps; each stored and read again.
    made = {name: make_run(net, T, classes, args.seed) for name, net in nets.items()}
    loader = data.batches(learned, BATCH, seed=args.seed)
    seconds = least_seconds({name: run for name, (run, *_) in made.items()}, next(loader.epoch(0)), rounds)
    digits.print_budgets({name: net.steps for name, net in nets.items()}, seconds)
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
        digits.print_trained(name, result.history)
        costs[name] = digits.Cost(sum(leaf.size for leaf in jax.tree.leaves(result.params)), 1e3 * seconds[name])
    digits.plot_accuracy(histories, accuracy, args.out / "accuracy.png")
    digits.plot_saliency(models, validation, (2,) if args.smoke else (3, 5, 8), args.out / "saliency.png")

    # The test part, once.
    classify, batches = nnx.jit(lambda model, xs: model(xs)), np.split(test["xs"], len(test["xs"]) // EVALUATED)
    logits = {name: np.concatenate([classify(model, xs) for xs in batches]) for name, model in models.items()}
    logits["logistic regression"] = linear.predict_log_proba(test["xs"][..., 0])
    logits["most frequent"] = baseline.most_frequent(learned["labels"], len(test["labels"]))
    counts = digits.print_scores(logits, costs, test["labels"])
    digits.plot_confusion(counts, args.out / "confusion.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
