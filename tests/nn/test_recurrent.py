"""The NNX layer against `jaxseq.unroll` on transposed arrays, and in all that Flax does with modules."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxseq
from jaxseq import kernels, nn
from tests import zoo
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, D = 3, 5, 2
NETS = {
    "lstm": jaxseq.lstm(4, peephole="new"),
    "learned_gru": jaxseq.learned_carry(jaxseq.gru(4)),
    "nest": jaxseq.stack(jaxseq.bidirectional(jaxseq.rnn(4)), jaxseq.dropout(jaxseq.rnn(4), inputs=0.5)),
}
KEY = jax.random.key(7)
XS = np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32)
MASK = np.arange(T) < np.array([5, 3, 0])[:, None]
RESET = np.arange(B * T).reshape(B, T) == 3


run = nnx.jit(lambda layer, xs, **flags: layer(xs, **flags))


def layer_of(cell, **options):
    return drawn(nn.Recurrent, cell, D, **options)


def arrays(layer):
    """The params in the cell's own structure."""
    return jax.tree.map(lambda p: p[...], layer.params, is_leaf=lambda p: isinstance(p, nnx.Param))


@pytest.mark.some(2)
@pytest.mark.parametrize(("name", "all_flags"), [("lstm", False), ("learned_gru", True), ("nest", True)])
def test_it_is_unroll_on_transposed_arrays(name, all_flags):
    """Values, last carry, and every gradient: of params, inputs and the carry."""
    cell = NETS[name]
    layer = layer_of(cell)
    graph, state = nnx.split(layer)
    params = arrays(layer)
    start = zoo.random_like(layer.initial_carry((B,)), 3)
    weights = zoo.random_like(np.zeros((B, T, cell.size), np.float32), 4)
    options = {"mask": MASK, "reset": RESET} if all_flags else {}
    transposed = {name: flag.T for name, flag in options.items()}
    key = KEY if all_flags else None

    @jax.jit
    def by_layer(state, xs, carry):
        def loss(state, xs, carry):
            end, ys = nnx.merge(graph, state).unroll(xs, carry, key=key, **options)
            return jnp.sum(ys * weights) + sum(map(jnp.sum, jax.tree.leaves(end))), (end, ys)

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(state, xs, carry)

    @jax.jit
    def by_unroll(params, xs, carry):
        def loss(params, xs, carry):
            end, ys = jaxseq.unroll(cell, params, jnp.swapaxes(xs, 0, 1), carry, key=key, **transposed)
            ys = jnp.swapaxes(ys, 0, 1)
            return jnp.sum(ys * weights) + sum(map(jnp.sum, jax.tree.leaves(end))), (end, ys)

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, xs, carry)

    carry = start if all_flags else layer.initial_carry((B,))
    xs = np.where(MASK[..., None], XS, np.float32(np.nan)) if all_flags else XS
    (d_state, *d_got), got = by_layer(state, xs, carry)
    (d_params, *d_want), want = by_unroll(params, xs, carry)
    zoo.assert_close((arrays(nnx.merge(graph, d_state)), d_got, got), (d_params, d_want, want), 1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((d_params, d_got, got)))


def test_without_a_carry_it_starts_from_the_initial_one():
    layer = layer_of(NETS["learned_gru"])
    unroll = nnx.jit(lambda layer, carry: layer.unroll(XS, carry, mask=MASK))
    carry, ys = unroll(layer, None)
    start = np.broadcast_to(layer.params.carry[...], (B, 4))
    zoo.assert_close((carry, ys), unroll(layer, start), 1e-6)
    np.testing.assert_array_equal(carry[2], start[2])  # a row without a real step


def test_any_number_of_batch_axes_also_none():
    layer = layer_of(NETS["lstm"])
    want = np.asarray(run(layer, XS, mask=MASK))
    np.testing.assert_allclose(run(layer, XS[1], mask=MASK[1]), want[1], atol=1e-6)
    two = run(layer, np.stack([XS, -XS]), mask=np.stack([MASK, MASK]))
    np.testing.assert_allclose(two, [want, run(layer, -XS, mask=MASK)], atol=1e-6)


def test_length_0_and_1():
    layer = layer_of(NETS["lstm"])
    carry, ys = nnx.jit(lambda layer, xs: layer.unroll(xs))(layer, XS[:, :0])
    assert ys.shape == (B, 0, 4)
    np.testing.assert_array_equal(carry.h, np.zeros((B, 4)))
    np.testing.assert_allclose(run(layer, XS[:, :1]), np.asarray(run(layer, XS))[:, :1], atol=1e-6)


def test_step_repeated_is_unroll():
    layer = layer_of(NETS["learned_gru"])
    want_carry, want = nnx.jit(lambda layer: layer.unroll(XS, reset=RESET))(layer)
    step = nnx.jit(type(layer).step)
    carry, ys = layer.initial_carry((B,)), []
    for t in range(T):
        carry, y = step(layer, carry, XS[:, t], reset=RESET[:, t])
        ys.append(y)
    np.testing.assert_allclose(np.stack(ys, 1), want, atol=1e-6)
    np.testing.assert_allclose(carry, want_carry, atol=1e-6)
    np.testing.assert_allclose(step(layer, None, XS[:, 0])[1], np.asarray(want)[:, 0], atol=1e-6)


def test_noise_needs_a_key_and_nothing_else():
    layer = layer_of(NETS["nest"])
    quiet, noisy = np.asarray(run(layer, XS)), np.asarray(run(layer, XS, key=KEY))
    assert np.abs(noisy - quiet).max() > 0.01
    layer.train()
    np.testing.assert_array_equal(run(layer, XS), quiet)
    layer.eval()
    np.testing.assert_array_equal(run(layer, XS, key=KEY), noisy)


@pytest.mark.parametrize("name", NETS)
def test_each_leaf_is_a_param_of_its_own_under_its_own_path(name):
    layer = layer_of(NETS[name])
    state = nnx.to_flat_state(nnx.state(layer, nnx.Param))
    want = jax.tree_util.tree_leaves_with_path(arrays(layer))
    assert len(state) == len(want)
    assert {path for path, _ in state} == {
        ("params", *(getattr(key, "name", getattr(key, "idx", None)) for key in path)) for path, _ in want
    }
    assert all(type(leaf) is nnx.Param for _, leaf in state)
    assert jax.tree.structure(arrays(layer)) == jax.tree.structure(jax.eval_shape(lambda: NETS[name].init(KEY, D)))


def test_params_are_seen_by_name():
    layer = layer_of(NETS["nest"])
    assert layer.params[0].backward.w_x.shape == (D, 4)
    assert ("params", 1, "w_h") in dict(nnx.to_flat_state(nnx.state(layer)))
    assert layer_of(jaxseq.lstm(4)).params.w_c is None


def test_state_goes_through_split_pickle_and_merge():
    layer = layer_of(NETS["nest"])
    graph, state = nnx.split(layer)
    saved = pickle.dumps(jax.tree.map(np.asarray, nnx.to_pure_dict(state)))
    fresh = layer_of(NETS["nest"], seed=1)
    other = nnx.state(fresh)
    nnx.replace_by_pure_dict(other, pickle.loads(saved))
    nnx.update(fresh, other)
    for restored in (nnx.merge(graph, state), fresh):
        np.testing.assert_array_equal(run(restored, XS), run(layer, XS))
    assert nnx.split(fresh)[0] == graph


def test_construction_can_be_abstract_and_is_the_cells():
    @jax.jit
    def made():
        layer = nn.Recurrent(NETS["learned_gru"], D, rngs=nnx.Rngs(0))
        return arrays(layer), NETS["learned_gru"].init(nnx.Rngs(0).params(), D)

    got, want = made()
    zoo.assert_close(got, want, 0)
    model = nnx.eval_shape(lambda: nn.Recurrent(NETS["nest"], D, rngs=nnx.Rngs(0)))
    shapes = jax.tree.map(jnp.shape, nnx.state(layer_of(NETS["nest"])))
    assert jax.tree.map(lambda leaf: leaf.shape, nnx.state(model)) == shapes
    assert (
        jax.tree.map(jnp.shape, jax.eval_shape(lambda: nnx.state(nn.Recurrent(NETS["nest"], D, rngs=nnx.Rngs(0)))))
        == shapes
    )


def test_nnx_jit_grad_sequential_and_optimizer():
    """One step of gradient descent, by Flax's own tools, is that of the hand-made one."""
    model = nnx.Sequential(layer_of(NETS["lstm"]), drawn(nnx.Linear, 4, 1))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = arrays(model.layers[0])
    kernel, bias = (getattr(model.layers[1], name)[...] for name in ("kernel", "bias"))

    @nnx.jit
    def train(model, optimizer):
        loss, gradients = nnx.value_and_grad(lambda model: jnp.mean(model(XS) ** 2))(model)
        optimizer.update(model, gradients)
        return loss

    def loss(params):
        _, ys = jaxseq.unroll(NETS["lstm"], params, jnp.swapaxes(XS, 0, 1))
        return jnp.mean((ys @ kernel + bias) ** 2)

    want, gradients = jax.jit(jax.value_and_grad(loss))(before)
    np.testing.assert_allclose(train(model, optimizer), want, rtol=1e-5)
    stepped = jax.tree.map(lambda p, d: np.asarray(p) - 0.1 * np.asarray(d), before, gradients)
    zoo.assert_close(arrays(model.layers[0]), stepped, 1e-6)


def test_an_ensemble_by_nnx_vmap():
    cell = jaxseq.rnn(4)

    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
        return nn.Recurrent(cell, D, rngs=rngs)

    @nnx.jit
    def members():
        ensemble = make(nnx.Rngs(0))
        return ensemble, nnx.vmap(lambda layer, xs: layer(xs), in_axes=(0, None))(ensemble, XS)

    alone = jax.jit(lambda params: jaxseq.unroll(cell, params, jnp.swapaxes(XS, 0, 1))[1])
    ensemble, ys = members()
    ys = np.asarray(ys)
    for member in range(2):
        want = alone(jax.tree.map(lambda p, member=member: np.asarray(p)[member], arrays(ensemble)))
        np.testing.assert_allclose(ys[member], np.swapaxes(want, 0, 1), atol=1e-6)
    assert np.abs(ys[0] - ys[1]).max() > 0.01


def test_the_kernel_and_the_dtype_are_passed_on():
    seen = []

    def spy(cell, params, carry, xs, *, reverse=False):
        seen.append(cell.size)
        return kernels.scan(cell, params, carry, xs, reverse=reverse)

    layer = layer_of(NETS["lstm"], kernel=spy, param_dtype=jnp.bfloat16)
    assert jax.eval_shape(layer, jax.ShapeDtypeStruct(XS.shape, jnp.bfloat16)).dtype == jnp.bfloat16
    assert seen == [4]


LSTM = layer_of(jaxseq.lstm(4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LSTM(XS[0, 0]), ValueError, r"`xs` must be \[B, T, D\], of at least 2 axes; got float32 \(2,\)"),
        (lambda: LSTM(untyped([1.0])), TypeError, r"`xs` must be an array \[B, T, D\]; got list"),
        (
            lambda: LSTM(jnp.ones((B, T), int)),
            TypeError,
            r"`xs` must be floating \[B, T, D\]; .* Embed ids first; cast numbers",
        ),
        (lambda: LSTM(XS.astype(jnp.bfloat16)), TypeError, r"`xs` must be float32, the dtype of `params`"),
        (
            lambda: LSTM(XS[..., :1]),
            ValueError,
            r"`xs` must have the 2 features that the layer was made for; got 1, float32 \(3, 5, 1\)",
        ),
        (lambda: LSTM.step(None, XS[0, :, :1]), ValueError, "`x` must have the 2 features that the layer was made for"),
        (
            lambda: layer_of(jaxseq.gru(4)._replace(init=lambda key, in_size: None)),
            TypeError,
            r"`cell.init` must take \(key, in_size, dtype=None\); <lambda> takes \(key, in_size\)",
        ),
        (lambda: LSTM(XS, mask=MASK.T), ValueError, r"`mask` must be bool \[B, T\] = \(3, 5\); .*pass time-major\?"),
        (lambda: LSTM(XS, reset=MASK.T), ValueError, r"`reset` must be bool \[B, T\] = \(3, 5\); .*time-major\?"),
        (lambda: LSTM(XS, mask=jnp.arange(len(XS))), TypeError, r"Make one from lengths: .*\(lengths, T\)\.T\."),
        (lambda: LSTM(XS, mask=MASK[:1]), ValueError, r"`mask` must be bool \[B, T\] = .* Nothing is broadcast"),
        (lambda: LSTM(XS, mask=MASK * 1.0), TypeError, r"`mask` must be bool \[B, T\].* Cast it: mask.astype"),
        (lambda: LSTM(XS, LSTM.initial_carry((2,))), ValueError, r"`carry.h` must be float32 \(3, 4\)"),
        (lambda: LSTM(XS, key=untyped(0)), TypeError, "`key` must be a jax.random.key or None"),
        (lambda: LSTM.step(None, XS[0, 0], reset=MASK), ValueError, r"`reset` must be bool \[B\] = \(\)"),
        (lambda: layer_of(NETS["nest"]).step(None, XS[:, 0]), ValueError, "this Composite is not causal"),
        (lambda: layer_of(jaxseq.lstm), TypeError, "`cell` must be a jaxseq.Cell or a jaxseq.Composite"),
        (lambda: layer_of(jaxseq.lstm(4), kernel=kernels.remat), TypeError, "`kernel` must take"),
        (lambda: nn.Recurrent(jaxseq.lstm(4), 0, rngs=nnx.Rngs(0)), ValueError, "`in_features` must be a positive int"),
    ],
)
def test_errors_speak_batch_major(call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(call)


def test_it_prints_its_net_as_its_call_and_shows_its_signature():
    layer = layer_of(jaxseq.stack(jaxseq.lstm(4), jaxseq.dropout(jaxseq.gru(3), inputs=0.1)))
    assert "cell=stack(lstm(4), dropout(gru(3), inputs=0.1))," in repr(layer)
    assert list(inspect.signature(nn.LanguageModel).parameters)[:4] == ["cell", "vocabulary", "features", "tied"]


def test_what_functions_of_cells_take_of_a_layer_is_told():
    with pytest.raises(TypeError, match=r"got Recurrent. Of a layer of nn, give its `cell`, and as params nnx.as_pure"):
        kernels.explain(untyped(LSTM), LSTM.params, XS)
    xs = jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    assert kernels.explain(LSTM.cell, nnx.as_pure(LSTM.params), xs) == kernels.explain(
        LSTM.cell, jax.eval_shape(lambda: LSTM.cell.init(jax.random.key(0), D)), xs
    )
