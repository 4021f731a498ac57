"""A trained classifier made smaller: int8 weights, most weights zero, and both; what is lost, and what comes back.

    python -m examples.model_compression [--out runs/model_compression] [--smoke]
                                         [--model runs/series_classification/model]

In: a classifier as `examples/series_classification.py` trains it: the first of the three that this stored in --model,
or else one that is trained here. Out: a table of sizes and accuracies, and the smallest model that validates as well as
the whole one.

int8        `train.compression.quantize`: every matrix in int8, with a scale a column; the rest stays float32.
zeros       `train.compression.prune`: the smallest 50 … 95 % of all weights become zero. Their size is that of a file
            which leaves zeros out; a program that runs on dense arrays is not made faster.
tuned       a few hundred more steps in which `keep_zeros`, last in the optimiser's chain, holds the zeros.

80 % of the training file are learned from, also in tuning, and 20 % validate. The test file is looked at once, at the
end. A model of --model has learned from all of the training file: then what validates is not held out, and says less.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples import options, out_folder
from examples.data.ts_files import as_arrays, fit_normalizer, japanese_vowels, made_up
from examples.reports.compression import plot, print_scores, zero_share
from examples.shared.series_classifiers import make_loss, make_model, make_optimizer
from jaxseq import data, train
from jaxseq.train import compression

BATCH, NOISE = 32, 0.6


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "model_compression")
    parser.add_argument("--model", type=Path, help="of examples.series_classification; default: one is trained")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "model_compression")
    started = time.perf_counter()
    cases, test = (made_up(96, 0), made_up(60, 1)) if args.smoke else japanese_vowels()
    size, steps, tuning, sparsities = (8, 120, 60, (0.8,)) if args.smoke else (48, 400, 200, (0.5, 0.7, 0.8, 0.9, 0.95))
    features, classes = cases.sequences[0].shape[1], len(cases.classes)
    learned, held_out = data.split(len(cases.labels), (0.8, 0.2), seed=0, stratify=cases.labels)
    if args.model is None:
        normalizer = fit_normalizer(cases, learned)
    else:
        info = train.load_info(args.model)
        size, normalizer = info["size"], data.Normalizer(np.array(info["mean"]), np.array(info["std"]))
    key_init, key = jax.random.split(jax.random.key(args.seed))
    graph, params = nnx.split(make_model(features, classes, size, key_init), nnx.Param)
    loader = data.batches(as_arrays(cases, normalizer, learned), BATCH, seed=args.seed)
    validation, test_batch = as_arrays(cases, normalizer, held_out), as_arrays(test, normalizer)
    loss_fn = make_loss(graph, NOISE)

    settings = {"seed": args.seed, "smoke": args.smoke, "model": str(args.model)}

    def fit(name, params, optimizer, step, steps):
        return train.fit(
            step,
            train.init(params, optimizer, key),
            loader,
            epochs=round(steps / len(loader)),
            every=steps,
            checkpoints=train.Checkpoints(args.out / "checkpoints" / name, every=100, settings=settings),
            progress=True,
        ).params

    if args.model is None:
        optimizer = make_optimizer(steps)
        whole = fit("whole", params, optimizer, train.make_step(loss_fn, optimizer), steps)
    else:
        like = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), tree), params)
        whole = jax.tree.map(lambda leaf: leaf[0], train.load(args.model, like).tree)

    # The ways, by name: what each makes of the whole model. One tuning step, compiled once, serves every sparsity.
    adam = optax.adam(optax.cosine_decay_schedule(4e-3, tuning))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam, compression.keep_zeros())
    step = train.make_step(loss_fn, optimizer)
    models = {"float32": ("float32", whole), "int8": ("int8", compression.quantize(whole))}
    for sparsity in sparsities:
        pruned = compression.prune(whole, sparsity, scope="global")
        tuned = fit(f"sparsity-{sparsity}", pruned, optimizer, step, tuning)
        models[f"{sparsity:.0%} zeros"] = "zeros", pruned
        models[f"{sparsity:.0%} zeros, tuned"] = "zeros, tuned", tuned
        models[f"{sparsity:.0%} zeros, tuned, int8"] = "zeros, tuned, int8", compression.quantize(tuned)
        print(f"{sparsity:.0%} pruned; after tuning {zero_share(tuned):.1%} of the weights are zero", flush=True)

    @jax.jit
    def right(small, batch):
        logits = nnx.merge(graph, compression.dequantize(small))(batch["xs"], mask=batch["mask"])
        return train.metrics.accuracy(logits.argmax(-1), batch["labels"])

    table = {
        name: {
            "way": way,
            "bytes": compression.sparse_size(small),
            "validation": float(right(small, validation).value),
        }
        for name, (way, small) in models.items()
    }
    enough = [name for name, row in table.items() if row["validation"] >= table["float32"]["validation"]]
    smallest = min(enough, key=lambda name: table[name]["bytes"])
    train.save(args.out / "model", models[smallest][1], {"name": smallest, "size": size})

    # The test part, once; the one that was chosen, as it was stored.
    models[smallest] = models[smallest][0], train.load(args.out / "model", models[smallest][1]).tree
    for name, row in table.items():
        row["test"] = float(right(models[name][1], test_batch).value)
    print_scores(table, smallest, len(test.labels))
    plot(table, args.out / "sizes.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
