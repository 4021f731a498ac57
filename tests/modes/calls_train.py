"""The step and the fit, losses, metrics, groups, adapters, compression, ensembles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseq import train
from jaxseq.train import adapters, compression, groups, losses, metrics
from tests.modes.inputs import B, D, H, T, V, floats, ids, key, mask
from tests.modes.table import of


def params():
    return {"w": floats(D, H), "b": floats(H, seed=1)}


def loss_fn(params, batch, key):
    ys = batch["x"] @ params["w"] + params["b"][None]
    loss = losses.squared_error(ys, batch["y"], mask=batch["real"])
    return metrics.mean(loss, mask=batch["real"]), {"mae": metrics.mae(ys, batch["y"], mask=batch["real"])}


OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
STEPS = [train.make_step(loss_fn, OPTIMIZER), train.make_step(loss_fn, OPTIMIZER, nonfinite="skip", accumulate=2)]


def batches(*lead):
    return [{"x": floats(*lead, B, D), "y": floats(*lead, B, H, seed=2), "real": mask(*lead, B, last=H)}]


VALIDATE = train.evaluator(loss_fn, batches())


@of("train.init", "train.make_step", traced=False)
def steps():
    return [
        step(train.init(params(), OPTIMIZER, key()), batches(*lead)[0])[1]
        for step, lead in zip(STEPS, ((), (2,)), strict=True)
    ]


@of("train.fit", "train.evaluator", traced=False)
def fitted():
    state = train.init(params(), OPTIMIZER, key())
    result = train.fit(STEPS[0], state, batches(), epochs=2, validate=VALIDATE)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    return result.params, rows


@of("train.shard_state", "train.bytes_per_device", traced=False)
def split():
    mesh = jax.make_mesh((2,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("b"))
    state = train.shard_state(train.init(params(), OPTIMIZER, key()), sharding, smallest=1)
    held = train.bytes_per_device(state)
    return STEPS[0](state, jax.device_put(batches()[0], sharding))[1], held


def _predict(params, xs):
    return jax.nn.softmax(xs @ params["w"])


AVERAGE = train.average(_predict)


@of("train.average")
def ensemble():
    members = {"w": floats(2, D, H)}
    return AVERAGE(members, floats(B, D))


@of("train.by_path", "train.per_group", "train.groups.matrices", "train.groups.paths")
def grouped():
    chosen = groups.by_path(params(), {"w": 1}, default=0), groups.matrices(params(), None)
    assert groups.paths(params()) == {"w": "w", "b": "b"}
    optimizer = groups.per_group({"b": None}, default=optax.sgd(0.1))
    return chosen, optimizer.update(params(), optimizer.init(params()), params())[0]


@of("train.adapters.init", "train.adapters.apply")
def adapted():
    made = adapters.init(key(), params(), 2)
    return made, adapters.apply(params(), jax.tree.map(lambda leaf: leaf + 1, made), scale=0.5)


@of(*(f"train.compression.{name}" for name in ("quantize", "dequantize", "prune", "masks", "keep_zeros")), traced=False)
def compressed():
    small, pruned = compression.quantize(params(), rows="w"), compression.prune(params(), 0.5)
    update = compression.keep_zeros()
    kept = update.update(params(), update.init(pruned), pruned)[0]
    everywhere = compression.prune(params(), 0.5, scope="global")
    return small, compression.dequantize(small), pruned, everywhere, compression.masks(pruned), kept


@of("train.compression.size", "train.compression.sparse_size", traced=False)
def sizes():
    return compression.size(params()), compression.sparse_size(params())


@of("train.losses.cross_entropy", "train.losses.binary_cross_entropy")
def entropies():
    labels = ids(B, T), ids(B, T, below=2)
    found = losses.cross_entropy(floats(B, T, V), labels[0], smoothing=0.1, mask=mask(B))
    return found, losses.binary_cross_entropy(floats(B, T), labels[1], mask=mask(B))


@of(*(f"train.losses.{name}" for name in ("squared_error", "absolute_error", "huber", "quantile", "gaussian_nll")))
def errors():
    xs, ys = floats(B, T), floats(B, T, seed=1)
    options: dict[str, Any] = {"mask": mask(B)}
    plain = [loss(xs, ys, **options) for loss in (losses.squared_error, losses.absolute_error, losses.huber)]
    narrow = losses.squared_error(xs.astype(jnp.bfloat16), ys.astype(jnp.bfloat16), **options)
    likely = losses.gaussian_nll(xs, jnp.ones((B, T)), ys, **options)
    return plain, narrow, likely, losses.quantile(floats(B, T, 2), ys, (0.1, 0.9), **options)


@of("train.losses.mean", "train.losses.l1", "train.losses.l2")
def reduced():
    means = losses.mean(floats(B, T), mask=mask(B)), losses.mean(floats(B, T)), losses.mean(jnp.zeros(0))
    return means, losses.l1(params()), losses.l2(params())


@of(
    *(f"train.metrics.{name}" for name in ("mean", "accuracy", "perplexity", "merge", "compute", "confusion", "spans")),
    traced=False,
)
def counted():
    labels, options = (ids(B, T, below=3), ids(B, T, below=3, seed=1)), {"mask": mask(B)}
    mean, accuracy = metrics.mean(floats(B, T), **options), metrics.accuracy(*labels, **options)
    confusion, spans = metrics.confusion(*labels, 3, **options), metrics.spans(*labels, ["O", "B-X", "I-X"], **options)
    found = {"a": metrics.merge(accuracy, accuracy), "p": metrics.perplexity(floats(B, T), **options)}
    found |= {"mean": mean, "confusion": confusion, "spans": spans}
    return found, [metric.value for metric in found.values()], metrics.compute(found)


@of(*(f"train.metrics.{name}" for name in ("mae", "rmse", "mase", "naive_scale", "coverage")))
def forecasts():
    xs, ys = floats(B, T), floats(B, T, seed=1)
    options: dict[str, Any] = {"mask": mask(B)}
    scale = metrics.naive_scale(floats(B, 2 * T), mask=mask(B, last=2 * T))
    found = metrics.mae(xs, ys, **options), metrics.rmse(xs, ys, **options), metrics.coverage(xs, xs + 1, ys, **options)
    scaled = metrics.mase(xs, ys, scale, **options)
    return scale, found, scaled, [metric.value for metric in (*found, scaled)]


@of(
    *(f"train.metrics.{name}" for name in ("edit_distance", "edits", "word_error_rate", "character_error_rate")),
    traced=False,
)
def edited():
    rows, options = (ids(B, T), ids(B, T + 1, seed=1)), {"predicted_mask": mask(B), "mask": mask(B, last=T + 1)}
    texts = ["a b c", "d"], ["a c", "d e"]
    rates = metrics.word_error_rate(*texts), metrics.character_error_rate(*texts)
    return metrics.edit_distance(*rows, **options), metrics.edits(*rows).value, np.array(rates)
