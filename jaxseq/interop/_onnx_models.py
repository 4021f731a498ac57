"""Models of `jaxseq.nn` as ONNX graphs. Inputs and outputs are batch-major; the recurrent nodes are time-major.

ids [B, T] or xs [B, T, D]  ->  Transpose, Gather of embeddings  ->  the net  ->  pooling, linear layers, the head
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import nn
from jaxseq.interop._onnx_write import Graph
from jaxseq.nn.models import _heads, _pooling


def model(model: Any, lengths: bool, carry: bool) -> Any:
    """Returns the checked model. See `onnx.export_model`."""
    kinds = {
        nn.SequenceClassifier: _classifier,
        nn.SequenceTagger: _tagger,
        nn.LanguageModel: _language_model,
        nn.Forecaster: _forecaster,
    }
    write = kinds.get(type(model))
    if write is None:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"`model` must be an nn.{names}; got {type(model).__name__}")
    layer = model.recurrent
    if not isinstance(layer, nn.Recurrent):
        raise ValueError(f"`model` must be of cells and nets to become ONNX; its layer is {type(layer).__name__}")
    graph = Graph(lengths, carry)
    embedding = getattr(model, "embedding", None)
    params = layer._arrays()  # in the dtype of the computation
    graph.dtype = next(np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params))
    if embedding is None:
        given = {"xs": (graph.dtype, ("B", "T", layer.in_features))}
        xs = graph.add("Transpose", ["xs"], "xs.time", perm=[1, 0, 2])
    else:
        given = {"ids": (np.int64, ("B", "T"))}
        xs = _embedded(graph, _array(graph, "embedding", embedding.embedding))
    ys = graph.net(layer.cell, params, xs, "recurrent", False)
    return graph.model(given, write(graph, model, ys))


def _array(graph, name, param):
    return graph.constant(name, np.asarray(param[...], graph.dtype))


def _embedded(graph, table):
    """Adds the embeddings `[T, B, D]` of the ids. On padding the ids may have any value."""
    ids = graph.add("Transpose", ["ids"], "ids.time", perm=[1, 0])
    if graph.lengths:
        mask = graph.add("Squeeze", [graph.mask(ids), graph.constant("axis 2", np.array([2]))], "ids.mask")
        ids = graph.add("Where", [mask, ids, graph.constant("an id", np.int64(0))], "ids.kept")
    return graph.add("Gather", [table, ids], "embedded")


def _linear(graph, name, layer, xs):
    ys = graph.add("MatMul", [xs, _array(graph, f"{name}.kernel", layer.kernel)], f"{name}.product")
    if layer.bias is None:
        return ys
    return graph.add("Add", [ys, _array(graph, f"{name}.bias", layer.bias)], f"{name}.ys")


def _classifier(graph, model, ys):
    logits = _linear(graph, "head", model.head, _pooled(graph, model.pool, ys))
    graph.add("Identity", [logits], "logits")
    return {"logits": ("B", model.head.out_features)}


def _tagger(graph, model, ys):
    logits = _linear(graph, "head", model.head, ys)
    graph.add("Transpose", [logits], "logits", perm=[1, 0, 2])
    return {"logits": ("B", "T", model.head.out_features)}


def _language_model(graph, model, ys):
    if model.ngrams is not None:
        raise ValueError("ONNX has no equivalent of `ngrams` of nn.LanguageModel")
    ys = ys if model.head is None else _linear(graph, "head", model.head, ys)
    if model.tied:
        table = np.asarray(model.embedding.embedding[...], graph.dtype)
        ys = graph.add("MatMul", [ys, graph.constant("embedding.T", np.ascontiguousarray(table.T))], "tied")
    graph.add("Transpose", [ys], "logits", perm=[1, 0, 2])
    return {"logits": ("B", "T", model.embedding.num_embeddings)}


def _forecaster(graph, model, ys):
    raw = _linear(graph, "output", model.output, _pooled(graph, model.pool, ys))
    shape = model.horizon, model.targets, model.head.size
    raw = graph.add("Reshape", [raw, graph.constant("shape", np.array([-1, *shape]))], "raw")
    graph.add("Identity", [_parameters(graph, model.head, raw)], "parameters")
    return {"parameters": ("B", *shape)}


def _parameters(graph, head, raw):
    """Adds the parameters that a head computes from its raw outputs."""
    if isinstance(head, nn.Point) or (head.size == 1 and isinstance(head, nn.Quantiles)):
        return raw
    if not isinstance(head, nn.Quantiles | nn.Gaussian):
        raise ValueError(f"ONNX has no equivalent of `head` {type(head).__name__} of nn.Forecaster")

    def part(name, start, end):
        bounds = [graph.constant(f"{name}.{at}", np.array([value])) for at, value in (("from", start), ("to", end))]
        return graph.add("Slice", [raw, *bounds, graph.constant("last axis", np.array([-1]))], name)

    first = part("head.first", 0, 1)
    rest = graph.add("Softplus", [part("head.rest", 1, head.size)], "head.positive")
    if isinstance(head, nn.Gaussian):
        least = graph.constant("least deviation", np.asarray(_heads.LEAST_DEVIATION, graph.dtype))
        rest = graph.add("Add", [rest, least], "head.deviation")
    both = graph.add("Concat", [first, rest], "head.parameters", axis=-1)
    if isinstance(head, nn.Gaussian):
        return both
    return graph.add("CumSum", [both, graph.constant("an axis", np.int64(3))], "head.quantiles")


def _pooled(graph, pool, ys):
    """Adds one pooled vector per row, `[B, F]`."""
    if pool is _pooling.last_pool:
        return _at_end(graph, ys)
    if pool is _pooling.ends_pool:
        first = graph.add("Gather", [ys, graph.constant("first", np.int64(0))], "pool.first", axis=0)
        return graph.add("Concat", [_at_end(graph, ys), first], "pool.ends", axis=-1)
    if pool is _pooling.mean_pool:
        return _mean(graph, ys)
    if pool is _pooling.max_pool:
        return _largest(graph, ys)
    if pool is _pooling.mean_max_pool:
        return graph.add("Concat", [_mean(graph, ys), _largest(graph, ys)], "pool.mean_max", axis=-1)
    return _attended(graph, pool, ys)


def _at_end(graph, ys):
    """Adds the output of the last real step."""
    if not graph.lengths:
        return graph.add("Gather", [ys, graph.constant("last", np.int64(-1))], "pool.last", axis=0)
    nothing = graph.constant("zero", np.zeros((), graph.dtype))
    last = graph.add("Where", [graph.mask(ys, "Equal", -1), ys, nothing], "pool.of_last")
    return _summed(graph, last, "pool.last")


def _summed(graph, ys, name):
    return graph.add("ReduceSum", [ys, graph.constant("axis 0", np.array([0]))], name, keepdims=0)


def _mean(graph, ys):
    if not graph.lengths:
        return graph.add("ReduceMean", [ys], "pool.mean", axes=[0], keepdims=0)
    from onnx import helper  # pyright: ignore[reportMissingImports]

    counts = graph.add("Cast", ["lengths"], "pool.counts", to=helper.np_dtype_to_tensor_dtype(graph.dtype))
    counts = graph.add("Unsqueeze", [counts, graph.constant("axis 1", np.array([1]))], "pool.count")
    return graph.add("Div", [_summed(graph, graph.kept(ys, "pool"), "pool.sum"), counts], "pool.mean")


def _largest(graph, ys):
    kept = graph.kept(ys, "pool", float(jnp.finfo(graph.dtype).min))
    return graph.add("ReduceMax", [kept], "pool.max", axes=[0], keepdims=0)


def _attended(graph, pool, ys):
    hidden = graph.add("Tanh", [_linear(graph, "pool.hidden", pool.hidden, ys)], "pool.tanh")
    scores = graph.kept(_linear(graph, "pool.query", pool.query, hidden), "pool", float(jnp.finfo(graph.dtype).min))
    weights = graph.add("Softmax", [scores], "pool.weights", axis=0)
    return _summed(graph, graph.add("Mul", [weights, ys], "pool.weighted"), "pool.attended")
