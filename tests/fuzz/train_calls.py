"""A valid call of each public function of `train`."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxseq
from jaxseq import train
from jaxseq.train import compression, metrics
from tests.fuzz.core_calls import KEY, MASK, XS, B, D, T
from tests.fuzz.other_calls import IDS, LOGITS, V

SGD = optax.sgd(0.1)
MODEL = jaxseq.rnn(2), {"w": np.ones((1, 1), np.float32)}
DEVICE = jax.devices()[0]
SHARDING = jax.sharding.NamedSharding(jax.sharding.Mesh([DEVICE], "b"), jax.sharding.PartitionSpec("b"))
HISTORY = [
    {"loss": 1.0, "step": 1, "epoch": 0.5, "seconds": 1.0},
    {"loss": 0.5, "step": 2, "epoch": 1.0, "seconds": 2.0},
]
LISTED = [{"x": np.ones((2, 1), np.float32)}]


def calls(folder):
    """The arguments by name; see `calls.all_calls`."""
    return _train(folder) | _params() | _elementwise()


def _loss(params, batch, key):
    return jnp.sum(jnp.abs(batch["x"] * params["w"]) ** 2), {"size": jnp.abs(params["w"]).sum()}


def _loss_with_carry(params, batch, key, carry):
    return *_loss(params, batch, key), carry + 1


def _train(folder):
    params, carry = {"w": jnp.ones((1, 1))}, jnp.ones(2)
    state, step = train.init(params, SGD, KEY), train.make_step(_loss, SGD)
    fitted = train.Fit(state, params, HISTORY)
    started = lambda: train.init(params, SGD, KEY, carry=carry)
    members = {"w": jnp.ones((2, 1, 1))}
    evaluated = {"batches": LISTED, "partial": False, "sharding": None}
    train.save_model(folder / "model", MODEL)
    train.save(folder / "stored", {"model": params | {"b": jnp.ones(1)}}, {"a": 1})
    return {
        "train.init": {"params": params, "optimizer": SGD, "key": KEY, "carry": carry},
        "train.make_step": {"loss_fn": _loss_with_carry, "optimizer": SGD, "accumulate": 1, "nonfinite": "stop"}
        | {"ensemble": False, "then": lambda step: step(started(), LISTED[0])},
        "train.fit": {"step": step, "state": state, "batches": LISTED, "epochs": 1, "every": 1, "checkpoints": None}
        | {"validate": train.evaluator(_loss, LISTED), "monitor": "size", "better": "lower", "patience": 1}
        | {"progress": False, "callbacks": [lambda fit: None], "sharding": jax.sharding.SingleDeviceSharding(DEVICE)},
        "train.shard_state": {"state": state, "sharding": SHARDING, "smallest": 1},
        "train.bytes_per_device": {"tree": params},
        "train.evaluator": {"loss_fn": _loss_with_carry, "carry": carry, "ensemble": False, **evaluated}
        | {"then": lambda evaluate: evaluate(params)},
        "train.evaluator of an ensemble": {"loss_fn": _loss, "carry": None, "ensemble": True, **evaluated}
        | {"then": lambda evaluate: evaluate(members)},
        "train.average": {"predict": lambda params, x: params["w"] * x, "then": lambda mean: mean(members, 2.0)},
        "train.save": {"folder": folder / "other", "tree": params, "info": {"a": 1}, "number": None, "keep": 1},
        "train.load": {"folder": folder / "stored", "like": params | {"b": jnp.zeros(1)}, "part": "model"},
        "train.transfer": {
            "folder": folder / "stored",
            "like": params,
            "part": "model",
            "renamed": {"w": "w"},
            "fresh": (),
        },
        "train.save_model": {"folder": folder / "net", "model": MODEL, "info": {"a": 1}, "number": None, "keep": 1},
        "train.load_model": {"folder": folder / "model"},
        "train.load_info": {"folder": folder / "stored"},
        "train.saved": {"folder": folder / "stored"},
        "train.callbacks.csv": {"path": folder / "log.csv", "then": lambda write: write(fitted)},
        "train.callbacks.printing": {"file": io.StringIO(), "then": lambda write: write(fitted)},
        "train.curves.plot": {
            "history": HISTORY,
            "path": folder / "curves.png",
            "names": ("loss",),
            "monitor": "loss",
            "better": "lower",
        },
    }


def _params():
    params, matrix = {"w": jnp.ones((1, 1))}, {"w": jnp.ones((D, D))}
    adapters, where = train.adapters.init(KEY, matrix, 2), {"where": ["w"]}
    initial = lambda optimizer: optimizer.init(params)
    return {
        "train.by_path": {"params": params, "rules": {"w": 1}, "default": 0},
        "train.per_group": {"groups": {"w": SGD}, "default": SGD, "then": initial},
        "train.groups.paths": {"params": params},
        "train.groups.matrices": {"params": params, **where, "name": "where"},
        "train.adapters.init": {"key": KEY, "params": matrix, "rank": 2, **where},
        "train.adapters.apply": {"params": matrix, "adapters": adapters, "scale": 1.0},
        "train.compression.quantize": {"params": params, **where, "rows": "w"},
        "train.compression.dequantize": {"tree": compression.quantize(params)},
        "train.compression.prune": {"params": params, "sparsity": 0.5, **where, "scope": "leaf"},
        "train.compression.masks": {"params": params, **where},
        "train.compression.keep_zeros": where | {"then": lambda optimizer: optimizer.update(params, (), params)},
        "train.compression.size": {"params": params},
        "train.compression.sparse_size": {"params": params},
        "train.losses.l1": {"params": params},
        "train.losses.l2": {"params": params},
        "train.metrics.compute": {"metrics": {"loss": metrics.mean(XS)}},
        "train.metrics.merge": {"a": metrics.mean(XS), "b": metrics.mean(XS)},
        "train.metrics.character_error_rate": {"references": ["abc"], "hypotheses": ["abd"]},
        "train.metrics.word_error_rate": {"references": ["a b"], "hypotheses": ["a c"]},
    }


def _elementwise():
    pair = {"predictions": XS[..., 0], "targets": XS[..., 1], "mask": MASK}
    ids = {"predicted": IDS, "labels": IDS, "mask": MASK}
    rows = {"predicted": IDS.T, "labels": IDS.T, "predicted_mask": MASK.T, "mask": MASK.T}
    logits = {"logits": jnp.tile(LOGITS, (T, 1, 1)), "labels": IDS, "mask": MASK}
    return {
        "train.losses.absolute_error": pair,
        "train.losses.squared_error": pair,
        "train.losses.huber": pair | {"delta": 1.0},
        "train.losses.cross_entropy": logits | {"smoothing": 0.1},
        "train.losses.binary_cross_entropy": {"logits": XS[..., 0], "labels": MASK, "mask": MASK},
        "train.losses.gaussian_nll": {"mean": XS[..., 0], "std": jnp.ones((T, B)), "targets": XS[..., 1], "mask": MASK},
        "train.losses.quantile": {"predictions": XS, "targets": XS[..., 0], "levels": (0.1, 0.5, 0.9), "mask": MASK},
        "train.losses.mean": {"values": XS[..., 0], "mask": MASK},
        "train.metrics.accuracy": ids,
        "train.metrics.confusion": ids | {"classes": V},
        "train.metrics.coverage": {"lower": XS[..., 0] - 1, "upper": XS[..., 0], "targets": XS[..., 1], "mask": MASK},
        "train.metrics.edit_distance": rows,
        "train.metrics.edits": rows,
        "train.metrics.spans": {"predicted": IDS.T % 2, "labels": IDS.T % 2, "tags": ["O", "B-X"], "mask": MASK.T},
        "train.metrics.mae": pair,
        "train.metrics.rmse": pair,
        "train.metrics.mase": pair | {"scale": jnp.ones((T, B))},
        "train.metrics.mean": {"values": XS[..., 0], "mask": MASK},
        "train.metrics.perplexity": {"nll": XS[..., 0] + 1, "mask": MASK},
        "train.metrics.naive_scale": {"series": XS[..., 0], "season": 1, "axis": 0, "mask": MASK},
    }
