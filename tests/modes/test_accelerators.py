"""What an accelerator is asked to run, without one: programs are lowered for CUDA and TPU, and their text is read.

No program calls back into Python, which JAX refuses to lower for what is not there, and none calls a function that is a
CPU's alone, as native loops and LAPACK are: each call by name is one of `KNOWN`. Kernels are chosen by JAX's default
backend, which these tests say is a GPU.
"""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn, train
from jaxseq.train import losses
from tests import zoo
from tests.full import FULL
from tests.modes import table
from tests.modes.inputs import B, D, H, K, T, V, floats, ids, mask, resets, time_mask
from tests.nn.blocks import BLOCKS
from tests.nn.drawn import drawn

KNOWN = {  # JAX's own random bits and linear algebra
    "cuda": {
        "cu_lu_pivots_to_permutation",
        "cu_threefry2x32_ffi",
        "cusolver_geqrf_ffi",
        "cusolver_gesvdj_ffi",
        "cusolver_getrf_ffi",
        "cusolver_orgqr_ffi",
        "cusolver_potrf_ffi",
    },
    "tpu": {"Eigh", "LuDecomposition", "ProductOfElementaryHouseholderReflectors", "Qr"},
}


@pytest.fixture(autouse=True, scope="module")
def _on_a_gpu():
    jax.clear_caches()  # what was chosen on a CPU
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        yield
    jax.clear_caches()


def foreign(jitted, *arguments):
    """By platform, what a program calls by name that is not known there; of one that calls back JAX raises."""
    traced = jitted.trace(*arguments)
    texts = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in KNOWN}
    called = {platform: {*re.findall(r"custom_call @([^\s(]+)", text)} for platform, text in texts.items()}
    return {platform: names - KNOWN[platform] for platform, names in called.items() if names - KNOWN[platform]}


@pytest.mark.parametrize("name", ["jaxseq_native", "lapack_sgetrf_ffi"])
def test_what_is_a_cpus_alone_is_found(name):
    call = lambda x: jax.ffi.ffi_call(name, x)(x)
    assert foreign(jax.jit(call), jnp.ones((3, 3))) == {platform: {name} for platform in KNOWN}


@pytest.mark.parametrize(
    "function", [lambda x: jax.pure_callback(np.sin, x, x), lambda x: jax.debug.print("{}", x) or x]
)
def test_what_calls_back_is_not_lowered(function):
    with pytest.raises(ValueError, match="cpu is different from the lowering platform"):
        foreign(jax.jit(function), jnp.ones(3))


KERNELS = [name for name in zoo.KERNELS if name != "by_hand"]  # which is none of the library's
OF_CELLS = {name: [kernel for kernel in KERNELS if zoo.runs(kernel, name)] for name in zoo.CELLS}
PAIRS = [  # not at full length: each cell by one of its kernels, in turn
    (name, kernel)
    for place, (name, found) in enumerate(OF_CELLS.items())
    for kernel in (found if FULL else [found[place % len(found)]])
]
CALLS = [call for call in table.calls() if call.traced][:: 1 if FULL else 5]


@pytest.mark.some(3, learn=13)
@pytest.mark.parametrize(("name", "kernel"), PAIRS)
def test_the_training_step_of_a_cell(name, kernel):
    """By every kernel that runs it, with masks and resets."""
    cell = zoo.find(name).cell
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    options = {"mask": time_mask(), "reset": resets(), "kernel": zoo.KERNELS[kernel]}

    def loss(params, xs):
        return jnp.mean(jaxseq.unroll(cell, params, xs, **options)[1] ** 2)

    assert foreign(jax.jit(jax.value_and_grad(loss, (0, 1))), params, floats(T, B, D)) == {}


@pytest.mark.learn
@pytest.mark.parametrize("wrapper", zoo.WRAPPERS)
def test_the_training_step_of_a_wrapped_cell_with_noise(wrapper):
    cell = zoo.find(f"{wrapper}(lstm)").cell
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))

    def loss(params, xs, key):
        return jnp.mean(jaxseq.unroll(cell, params, xs, mask=time_mask(), reset=resets(), key=key)[1] ** 2)

    assert foreign(jax.jit(jax.value_and_grad(loss)), params, floats(T, B, D), jax.random.key(0)) == {}


CELL = jaxseq.dropout(jaxseq.gru(H), inputs=0.1)
LAYER = {"layers": 1, "heads": 2}


def squares(ys):
    return jnp.mean(ys**2)


def of_layer(layer, key):
    ys, carry = layer.unroll(floats(B, T, D), mask=mask(B), key=key)[::-1]
    return squares(ys) + sum(squares(leaf) for leaf in jax.tree.leaves(carry) if leaf.dtype == ys.dtype)


def of_block(entry):
    make = lambda rngs: nn.Blocks([entry.make(dropout=0.1, rngs=rngs)], in_features=D, rngs=rngs)
    return functools.partial(drawn, make), of_layer


def of_classes(model, key):
    logits = model(ids(B, T), mask=mask(B), **({} if isinstance(model, nn.TextCNN) else {"key": key}))
    return losses.cross_entropy(logits, jnp.zeros(logits.shape[:-1], int)).mean()


def of_forecast(model, key):
    parameters = model(floats(B, T, D), mask=mask(B), key=key)
    return losses.gaussian_nll(parameters[..., 0], parameters[..., 1], jnp.zeros(parameters.shape[:-1])).mean()


def of_attention(layer, key):
    return squares(layer(floats(B, T, H), layer.remember(floats(B, T, H, seed=1), mask=mask(B))).context)


def of_pool(pool, key):
    return squares(pool(floats(B, T, H), mask(B)))


def of_chain(head, key):
    return -head.log_likelihood(floats(B, T, K), ids(B, T, below=K), mask=mask(B)).mean()


def of_speech(model, key):
    return model.loss(floats(B, T, D), ids(B, 1) % 4 + 1, mask=mask(B), key=key).mean()


def of_translation(model, key):
    flags = {"source_mask": mask(B), "target_mask": mask(B)}
    return model.loss(ids(B, T), ids(B, T, seed=1), **flags, key=key).mean()


def recurrent_seq2seq():
    sizes = {"source_vocabulary": V, "target_vocabulary": V, "features": D, "start": 0, "end": 1}
    return drawn(nn.Seq2Seq, jaxseq.bidirectional(jaxseq.gru(3)), CELL, input_feeding=True, **sizes)


def transformer_language_model():
    layer = drawn(nn.Transformer, H, H, causal=True, max_length=T, positions="rotary", dropout=0.1, **LAYER)
    return drawn(nn.LanguageModel, layer, V, H, tied=True)


MODELS = {
    "Recurrent": (lambda: drawn(nn.Recurrent, CELL, D), of_layer),
    "TCN": (lambda: drawn(nn.TCN, D, [H, H], width=2, dropout=0.1), of_layer),
    "Transformer": (lambda: drawn(nn.Transformer, D, H, causal=False, dropout=0.1, **LAYER), of_layer),
    "Attention": (lambda: drawn(nn.Attention, H, H, score="additive"), of_attention),
    "AttentionPool": (lambda: drawn(nn.AttentionPool, H), of_pool),
    "SequenceClassifier": (
        lambda: drawn(nn.SequenceClassifier, CELL, D, K, vocabulary=V, pooling="attention"),
        of_classes,
    ),
    "SequenceTagger": (lambda: drawn(nn.SequenceTagger, CELL, D, K, vocabulary=V), of_classes),
    "TextCNN": (lambda: drawn(nn.TextCNN, D, K, widths=(2,), filters=H, vocabulary=V), of_classes),
    "LanguageModel": (
        lambda: drawn(nn.LanguageModel, CELL, V, D, ngrams=nn.NGrams((2, 3), buckets=7, features=2)),
        of_classes,
    ),
    "LanguageModel of a Transformer": (transformer_language_model, of_classes),
    "Forecaster": (lambda: drawn(nn.Forecaster, CELL, D, K, targets=2, head=nn.Gaussian()), of_forecast),
    "AutoregressiveForecaster": (lambda: drawn(nn.AutoregressiveForecaster, CELL, D, head=nn.Gaussian()), of_forecast),
    "CRF": (lambda: drawn(nn.CRF, K), of_chain),
    "CTCRecognizer": (lambda: drawn(nn.CTCRecognizer, CELL, D, V), of_speech),
    "Seq2Seq": (recurrent_seq2seq, of_translation),
    **{entry.make.func.__name__: of_block(entry) for entry in BLOCKS.values()},
}


@pytest.mark.some(1, learn=9)
@pytest.mark.parametrize("name", MODELS)
def test_the_training_step_of_a_model(name):
    """As `train.make_step` makes it, with the optimiser."""
    make, loss_of = MODELS[name]
    graph, params = nnx.split(make())
    optimizer = optax.adamw(1e-3)
    step = train.make_step(lambda params, batch, key: (loss_of(nnx.merge(graph, params), key), {}), optimizer)
    assert foreign(step, train.init(params, optimizer, jax.random.key(0)), None) == {}


def test_no_module_is_missing():
    modules = {name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nnx.Module)}
    assert modules - {name.split()[0] for name in MODELS} == {"Blocks"}  # all blocks are in one


@pytest.mark.learn
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_public_function(call):
    assert foreign(jax.jit(lambda: call.run())) == {}
