"""`jax.export` with symbols for T and B."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import export

import jaxseq
from jaxseq import nn
from jaxseq.structured import crf, ctc
from tests import zoo
from tests.modes import calls_core, table
from tests.modes.inputs import D, H, K, V, floats, log_probs, mask
from tests.nn.blocks import all_blocks
from tests.nn.drawn import drawn

CELLS = ("rnn", "lstm", "gru", "layer_norm_lstm", "layer_norm_gru", "slstm", "conv_lstm", *calls_core.LINEAR)
RESETS = jnp.arange(6).reshape(3, 2) == 2


def exported(run, *arguments, axes="t, b"):
    """The results of `run` on its arguments, and those of its exported program; `axes` are symbols that lead arrays."""
    scope = export.SymbolicScope()

    def like(leaf):
        lead = "" if leaf.ndim == 0 else axes
        shape = export.symbolic_shape(f"{lead}, ...", scope=scope, like=leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    program = export.export(jax.jit(run))(*jax.tree.map(like, arguments))
    return run(*arguments), program.call(*arguments)


def holds(run, *arguments, **options):
    want, got = exported(run, *arguments, **options)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    zoo.assert_close(got, want, 1e-5)


def weights(cell):
    return zoo.params_of(cell, D)


@pytest.mark.some(2)
@pytest.mark.parametrize("name", CELLS)
def test_cells_with_masks_and_resets(name):
    cell = zoo.CELLS[name].cell
    run = functools.partial(jaxseq.unroll, cell, weights(cell))
    holds(lambda xs, mask, reset: (run(xs), run(xs, mask=mask, reset=reset)), floats(3, 2, D), mask(2).T, RESETS)


@pytest.mark.some(1)
@pytest.mark.parametrize("kernel", [jaxseq.kernels.scan, jaxseq.kernels.bptt, jaxseq.kernels.native])
def test_gradients(kernel):
    cell = jaxseq.gru(H)
    loss = lambda params, xs: jnp.sum(jaxseq.unroll(cell, params, xs, kernel=kernel)[1] ** 2)
    holds(lambda xs: jax.grad(loss, argnums=(0, 1))(weights(cell), xs), floats(3, 2, D))


def test_nets():
    net = jaxseq.stack(jaxseq.bidirectional(jaxseq.lstm(H)), jaxseq.residual(jaxseq.learned_carry(jaxseq.gru(2 * H))))
    holds(lambda xs, mask: jaxseq.unroll(net, weights(net), xs, mask=mask), floats(3, 2, D), mask(2).T)


LAYERS = {
    "recurrent": lambda: drawn(nn.Recurrent, jaxseq.lstm(H), D),
    "tcn": lambda: drawn(nn.TCN, D, [H, H], width=2),
    "encoder": lambda: drawn(nn.Transformer, D, H, layers=1, heads=2, causal=False),
    "decoder": lambda: drawn(nn.Transformer, D, H, layers=1, heads=2, causal=True, max_length=9, positions="rotary"),
    "blocks": lambda: drawn(
        lambda rngs: nn.Blocks(all_blocks(rngs, kernel=jaxseq.kernels.bptt), in_features=D, rngs=rngs)
    ),
}


@pytest.mark.learn
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    graph, state = nnx.split(LAYERS[name]())
    run = lambda xs, mask, reset: nnx.merge(graph, state).unroll(xs, mask=mask, reset=reset)
    holds(run, floats(2, 3, D), mask(2), RESETS.T, axes="b, t")


@pytest.mark.learn
def test_a_step_of_a_transformer():
    layer = LAYERS["decoder"]()
    graph, state = nnx.split(layer)
    holds(lambda carry, x: nnx.merge(graph, state).step(carry, x), layer.initial_carry((2,)), floats(2, D), axes="b")


def test_structured():
    params = crf.Params(floats(K, K), floats(K), floats(K))
    holds(lambda scores, mask: crf.viterbi(params, scores, mask=mask), floats(3, 2, K), mask(2).T)
    holds(lambda log_p: ctc.greedy(log_p), log_probs(3, 2, V))


def test_every_public_named_tuple_can_be_stored():
    """JAX tells which types are registered for that by refusing them a second time."""
    types = table.named_tuples() - {jaxseq.Cell, jaxseq.Composite} | {
        type(LAYERS["decoder"]().initial_carry().layers[0])
    }
    for kind in types:
        with pytest.raises(ValueError, match=f"Duplicate .*{kind.__name__}"):
            export.register_namedtuple_serialization(kind, serialized_name=f"again.{kind.__module__}.{kind.__name__}")
