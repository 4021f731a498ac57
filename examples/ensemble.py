"""An ensemble trained in one step: ten classifiers that differ in their seed, against each of them alone.

    python -m examples.ensemble [--out runs/ensemble] [--members 10] [--seed 0] [--smoke]

In: the utterances of `examples/data/ts_files.py`, of which few are to be learned from: 8 of each speaker, so
that single models err. Out: the probabilities of the speakers, the mean of what the members say.

The members are one pytree whose leaves lead with an axis of members, made by `jax.vmap` over keys, and trained by one
step on the same batches. 8 utterances a speaker train, the other 22 of the training file say when to stop; the test
file is looked at once, by the members as they were stored. Told of each: accuracy, the cross-entropy (NLL), and the
expected calibration error (Guo et al. 2017): how far, on average over ten bins, confidence is from accuracy.
"""

import time

import jax
import numpy as np
from flax import nnx

from examples import options, out_folder, positive
from examples.data.ts_files import as_arrays, fit_normalizer, japanese_vowels, made_up
from examples.reports.calibration import bins, plot, print_scores, score
from examples.shared.series_classifiers import make_loss, make_model, make_optimizer
from examples.shared.timing import time_steps
from jaxseq import data, train

BATCH, NOISE = 24, 0.6


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "ensemble")
    parser.add_argument("--members", type=positive, default=10, help="nets")
    parser.add_argument("--seed", type=int, default=0, help="of params, batches and the parts")
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
    print_scores(table, ensemble)
    one = bins(of_each.reshape(-1, classes), np.tile(test.labels, args.members))
    plot(table, ensemble, one, bins(of_all, test.labels), args.out / "scores.png")
    batch = next(batches.epoch(0))
    vmapped, apart = time_steps(step, train.make_step(loss_fn, optimizer), start(keys), batch, rounds)
    print(f"one step of {args.members} members: {1e3 * vmapped:.1f} ms; {args.members} steps of one: ", end="")
    print(f"{1e3 * apart:.1f} ms, {apart / vmapped:.2f} times that")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
