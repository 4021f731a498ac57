"""Mixed precision: params in float32, computed with in bfloat16, in every module of `nn` and in `linen`."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import linen, nn
from tests.nn.blocks import BLOCKS
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, D, H, V = 2, 5, 4, 6, 7
LSTM, RNN, GRU = jaxseq.lstm(H), jaxseq.rnn(H), jaxseq.learned_carry(jaxseq.layer_norm_gru(H))
FLOATS = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
IDS = np.random.default_rng(1).integers(V, size=(B, T)).astype(np.int32)
MASK = np.arange(T) < np.array([[T], [3]])
READS: dict[str, Any] = {"source_vocabulary": V, "target_vocabulary": V, "features": D, "start": 0, "end": 1}


def transformer(features=H, **options):
    return functools.partial(nn.Transformer, D, features, **{"layers": 1, "heads": 2, "causal": True, **options})


def attending(**options):
    encoder = nn.Transformer(D, D, layers=1, heads=2, causal=False, positions="learned", max_length=T, **options)
    decoder = transformer(max_length=T + 1, memory_features=D)(**options)
    return nn.Seq2Seq(encoder, decoder, **READS, **options)


def seq2seq(**options):
    return lambda **o: nn.Seq2Seq(jaxseq.bidirectional(RNN), RNN, **READS, **options, **o)


def unrolled(model, xs):
    return model.unroll(xs, mask=MASK)


def in_order(*, dtype=None, param_dtype=None, rngs):
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    return nn.Blocks([BLOCKS["mamba2"].make(rngs=rngs, **options)], in_features=D, rngs=rngs, **options)


def of_pair(model, xs):
    return model.encode(xs), model(xs, xs, source_mask=MASK)


MODULES = {
    "recurrent": (
        functools.partial(nn.Recurrent, jaxseq.stack(LSTM, GRU), D, kernel=jaxseq.kernels.scan),
        FLOATS,
        unrolled,
    ),
    "tcn": (functools.partial(nn.TCN, D, [4, 6]), FLOATS, unrolled),
    "transformer": (transformer(max_length=T), FLOATS, unrolled),
    "rotary": (transformer(max_length=T, positions="rotary", kv_heads=1, heads=3, norm="post"), FLOATS, unrolled),
    **{name: (entry.make, FLOATS, None) for name, entry in BLOCKS.items()},
    "blocks": (in_order, FLOATS, None),
    "attention": (functools.partial(nn.Attention, D, D), FLOATS, lambda a, xs: a(xs, a.remember(xs, mask=MASK))),
    "dot": (functools.partial(nn.Attention, D, D, score="dot"), FLOATS, lambda a, xs: a(xs, a.remember(xs))),
    "pool": (functools.partial(nn.AttentionPool, D), FLOATS, lambda pool, xs: pool(xs, MASK)),
    "classifier": (functools.partial(nn.SequenceClassifier, LSTM, D, 3, pooling="attention"), FLOATS, None),
    "tagger": (functools.partial(nn.SequenceTagger, LSTM, D, 3, vocabulary=V), IDS, None),
    "language": (functools.partial(nn.LanguageModel, LSTM, V, D, tied=True), IDS, unrolled),
    "ngrams": (functools.partial(nn.LanguageModel, RNN, V, D, ngrams=nn.NGrams((2,), 8, 4)), IDS, unrolled),
    "forecaster": (functools.partial(nn.Forecaster, LSTM, D, 2, head=nn.Quantiles()), FLOATS, None),
    "one by one": (
        functools.partial(nn.AutoregressiveForecaster, LSTM, D),
        FLOATS,
        lambda m, xs: (m(xs), m.forecast(xs, 3)),
    ),
    "text cnn": (functools.partial(nn.TextCNN, D, 3, widths=(2, 3), filters=4), FLOATS, None),
    "recogniser": (functools.partial(nn.CTCRecognizer, LSTM, D, 3), FLOATS, None),
    "seq2seq": (seq2seq(input_feeding=True), IDS, of_pair),
    "attending": (attending, IDS, of_pair),
}
WIDE_OUTPUTS = {"recogniser"}  # log-probabilities, of float32 at least
WIDE_STATES = {*BLOCKS, "blocks"} - {"slstm"}  # of linear cells, of float32 at least


def of_floats(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def dots(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield {variable.aval.dtype.name for variable in equation.invars}
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                yield from dots(getattr(value, "jaxpr", value))


QUICK = ("recurrent", "attention", "pool", "language")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.learn) for name in MODULES]


@pytest.mark.some(1, learn=8)
@pytest.mark.parametrize("name", EACH)
def test_params_stay_float32_and_all_else_is_bfloat16(name):
    make, xs, call = MODULES[name]
    call = call or (lambda model, xs: model(xs, mask=MASK))
    mixed, narrow = drawn(make, dtype=jnp.bfloat16), drawn(make, param_dtype=jnp.bfloat16)
    graph, params = nnx.split(mixed)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} <= {"float32"}
    # Of params that bfloat16 holds, the numbers are those of the module that keeps them so.
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), params)
    run = lambda params, xs: call(nnx.merge(graph, params), xs)

    @jax.jit
    def values(params, xs):
        total = lambda params: sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in of_floats(run(params, xs)))
        return run(params, xs), jax.grad(total)(params)

    got, gradients = values(params, xs)  # float32 inputs are cast, too
    want = jax.jit(lambda xs: call(narrow, xs))(jaxseq.cast(xs, jnp.bfloat16))
    assert {leaf.dtype.name for leaf in of_floats(got)} == {"float32" if name in WIDE_OUTPUTS else "bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradients)} <= {"float32"}
    assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=0.04), got, want
    )
    operands = list(dots(jax.make_jaxpr(run)(params, xs).jaxpr))
    assert operands
    narrow_ones = [kinds <= {"bfloat16", "int32"} for kinds in operands]
    assert any(narrow_ones) if name in WIDE_STATES else all(narrow_ones)


def test_every_module_of_nn_is_here():
    takes = lambda value, name: name in inspect.signature(value.__init__).parameters
    modules = {value for value in vars(nn).values() if isinstance(value, type) and issubclass(value, nnx.Module)}
    with_params = {module for module in modules if takes(module, "param_dtype")}
    assert {module for module in with_params if not takes(module, "dtype")} == {nn.CRF}  # float32 at least
    made = {type(nnx.eval_shape(lambda make=make: make(rngs=nnx.Rngs(0)))) for make, *_ in MODULES.values()}
    assert made == with_params - {nn.CRF}


def test_steps_are_the_whole():
    model = drawn(nn.LanguageModel, LSTM, V, D, dtype=jnp.bfloat16)
    steps = jax.jit(lambda ids: jax.lax.scan(model.step, model.initial_carry((B,)), ids.T))
    (carry, logits), (last, whole) = steps(IDS), jax.jit(model.unroll)(IDS)
    assert carry.c.dtype == logits.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.swapaxes(logits, 0, 1).astype(np.float32), whole.astype(np.float32), atol=0.02)
    np.testing.assert_allclose(carry.c.astype(np.float32), last.c.astype(np.float32), atol=0.02)


def test_linen():
    layer = linen.Recurrent(LSTM, dtype=jnp.bfloat16)
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), FLOATS))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    carry, ys = jax.eval_shape(lambda v: layer.apply(v, FLOATS, method="unroll"), variables)
    after, y = jax.eval_shape(lambda v: layer.apply(v, None, FLOATS[:, 0], method="step"), variables)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((carry, ys, after, y))} == {"bfloat16"}
    total = lambda v: jnp.sum(jnp.asarray(layer.apply(v, FLOATS), jnp.float32))
    assert jax.eval_shape(jax.grad(total), variables) == variables


@pytest.mark.parametrize("options", [{"dtype": jnp.bfloat16}, {"param_dtype": jnp.bfloat16}], ids=["mixed", "narrow"])
def test_the_gradient_of_a_frequent_id_is_summed_in_float32(options):
    N = 8192
    d = np.random.default_rng(0).normal(0.5, 1, size=(N, D))
    model = drawn(nn.LanguageModel, LSTM, 2, D, **options)
    graph, params = nnx.split(model.embedding)
    loss = lambda params: jnp.sum(nnx.merge(graph, params)(jnp.zeros(N, jnp.int32)).astype(jnp.float32) * d)
    gradient = jax.jit(jax.grad(loss))(params)["embedding"][...].astype(np.float32)
    want = np.asarray(jnp.asarray(d, jnp.bfloat16), np.float64).sum(0)
    np.testing.assert_allclose(gradient[0], want, rtol=2**-8)
    assert not np.any(gradient[1])


def test_cast():
    tree = {"w": np.ones(2), "n": np.arange(2), "flag": np.array(True), "key": jax.random.key(0), "name": "x"}
    got = jaxseq.cast(tree, jnp.float16)
    assert got["w"].dtype == jnp.float16
    assert all(got[name] is tree[name] for name in ("n", "flag", "key", "name"))
    assert jaxseq.cast(tree, None) is tree


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jaxseq.cast({}, int),
            "`dtype` must be a floating dtype such as jnp.bfloat16, or None; got .*int",
        ),
        (
            lambda: nn.TCN(D, [4], dtype="nothing", rngs=nnx.Rngs(0)),
            "`dtype` must be a floating dtype .*; got 'nothing'",
        ),
        (lambda: nn.TCN(D, [4], param_dtype=complex, rngs=nnx.Rngs(0)), "`param_dtype` must be a floating dtype"),
        (
            lambda: nn.TCN(D, [4], rngs=untyped(jax.random.key(0))),
            r"`rngs` must be an nnx.Rngs, such as nnx.Rngs\(0\); got",
        ),
        (lambda: linen.Recurrent(LSTM, dtype=int).init(jax.random.key(0), FLOATS), "`dtype` must be a floating dtype"),
        (
            lambda: linen.Recurrent(LSTM, param_dtype=untyped(3)).init(jax.random.key(0), FLOATS),
            "`param_dtype` must be a float",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(call)


def test_a_layer_that_is_made_already_has_its_own_dtype():
    made = drawn(nn.TCN, D, [4])
    with pytest.raises(
        ValueError,
        match=r"`dtype` does not apply to a finished layer; pass it to the layer: TCN\(..., dtype=bfloat16\)",
    ):
        nn.SequenceTagger(made, D, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
