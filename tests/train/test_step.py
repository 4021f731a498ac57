"""One training step, against the same step written out plainly."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn, train
from jaxseq.train import losses, metrics
from tests import zoo
from tests.untyped import untyped

CELL = jaxseq.dropout(jaxseq.gru(3), inputs=0.3)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))


def make_batch(seed, rows=4, steps=5):
    rng = np.random.default_rng(seed)
    return {
        "xs": rng.normal(size=(steps, rows, 2)).astype(np.float32),
        "targets": rng.normal(size=(steps, rows, 3)).astype(np.float32),
        "mask": np.arange(steps)[:, None] < rng.integers(0, steps + 1, rows),
    }


def errors(params, batch, key):
    _, ys = jaxseq.unroll(CELL, params, batch["xs"], mask=batch["mask"], key=key)
    mask = jnp.broadcast_to(batch["mask"][..., None], ys.shape)
    return losses.squared_error(ys, batch["targets"], mask=mask), mask


def scalar_loss(params, batch, key):
    values, mask = errors(params, batch, key)
    return losses.mean(values, mask=mask), {"error": metrics.mean(values, mask=mask), "steps": jnp.sum(mask) * 1.0}


def mean_loss(params, batch, key):
    values, mask = errors(params, batch, key)
    mean = metrics.mean(values, mask=mask)
    return mean, {"error": mean}


def params_of(cell, seed=0):
    return zoo.params_of(cell, 2, seed=seed)


@functools.partial(jax.jit, static_argnums=0)
def plain_step(loss_fn, params, opt_state, batch, key, number):
    def loss(params):
        value, _ = loss_fn(params, batch, jax.random.fold_in(key, number))
        return value.value if isinstance(value, metrics.Mean) else value

    value, gradients = jax.value_and_grad(loss)(params)
    updates, opt_state = OPTIMIZER.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value, gradients


@pytest.fixture
def params():
    return params_of(CELL)


@pytest.mark.some(1)
@pytest.mark.parametrize("loss_fn", [scalar_loss, mean_loss])
def test_steps_are_the_plain_ones(loss_fn, params):
    key = jax.random.key(7)
    state, step = train.init(params, OPTIMIZER, key), train.make_step(loss_fn, OPTIMIZER)
    plain, opt_state = params, OPTIMIZER.init(params)
    for number in range(3):
        batch = make_batch(number)
        state, report = step(state, batch)
        plain, opt_state, value, gradients = plain_step(loss_fn, plain, opt_state, batch, key, number)
        np.testing.assert_allclose(report.loss, value, rtol=1e-6)
        np.testing.assert_allclose(report.gradient_norm, optax.tree.norm(gradients), rtol=1e-5)
        assert report.finite
        assert report.finite_leaves.all()
    chex.assert_trees_all_close((state.params, state.opt_state), (plain, opt_state), rtol=1e-4, atol=1e-6)
    assert int(state.step) == 3
    assert untyped(step)._cache_size() == 1


def test_params_given_to_init_stay_the_users(params):
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    train.make_step(scalar_loss, OPTIMIZER)(state, make_batch(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_numbers_of_no_dtype_of_their_own_do_not_compile_the_step_twice():
    params = {"w": jnp.full(2, 0.5), "b": 0.5}  # both weakly typed
    optimizer = optax.sgd(0.1)
    step = train.make_step(lambda params, batch, key: (jnp.sum(batch * params["w"] + params["b"]), {}), optimizer)
    state = train.init(params, optimizer, jax.random.key(0))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state.params))
    for _ in range(3):
        state, _ = step(state, jnp.ones(2))
    assert untyped(step)._cache_size() == 1


def test_the_states_buffers_are_given_away(params):
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    train.make_step(scalar_loss, OPTIMIZER)(state, make_batch(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_microbatches_are_the_batch_they_make_up():
    """Of unequal masks, too: the mean is over real steps, not over means."""
    params = params_of(jaxseq.rnn(3))

    def loss_fn(params, batch, key):
        _, ys = jaxseq.unroll(jaxseq.rnn(3), params, batch["xs"], mask=batch["mask"])
        mask = jnp.broadcast_to(batch["mask"][..., None], ys.shape)
        mean = metrics.mean(losses.squared_error(ys, batch["targets"], mask=mask), mask=mask)
        return mean, {"error": mean, "one": jnp.float32(1), "ys": ys}

    whole = make_batch(0, rows=6)
    parts = jax.tree.map(lambda leaf: np.stack(np.split(leaf, 3, axis=1)), whole)
    one = train.make_step(loss_fn, OPTIMIZER)
    three = train.make_step(loss_fn, OPTIMIZER, accumulate=3)
    (state, report), (state3, report3) = (
        step(train.init(params, OPTIMIZER, jax.random.key(1)), batch) for step, batch in ((one, whole), (three, parts))
    )
    chex.assert_trees_all_close(state.params, state3.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([report.loss, report.gradient_norm], [report3.loss, report3.gradient_norm], rtol=1e-5)
    np.testing.assert_allclose(report.aux["error"].value, report3.aux["error"].value, rtol=1e-6)
    assert report3.aux["error"].count == report.aux["error"].count == report.weight == report3.weight
    assert report3.aux["one"].shape == ()
    assert report3.aux["one"] == 1
    assert report3.aux["ys"].shape == (3, 5, 2, 3)


def test_microbatches_draw_apart(params):
    batch = make_batch(0)
    twice = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), batch)
    step = train.make_step(lambda *args: (scalar_loss(*args)[0], {"ys": errors(*args)[0]}), OPTIMIZER, accumulate=2)
    _, report = step(train.init(params, OPTIMIZER, jax.random.key(1)), twice)
    assert not np.array_equal(report.aux["ys"][0], report.aux["ys"][1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_changes_nothing_but_the_number(bad, params):
    def loss_fn(params, batch, key, carry):
        loss = scalar_loss(params, batch, key)[0] + batch["add"] * params.b[0]
        return loss, {}, carry + 1

    step = train.make_step(loss_fn, OPTIMIZER, nonfinite="skip")
    state, _ = step(
        train.init(params, OPTIMIZER, jax.random.key(1), carry=jnp.zeros(2)), {**make_batch(0), "add": np.float32(1)}
    )
    before = jax.tree.map(np.asarray, state._replace(key=None))
    state, report = step(state, {**make_batch(1), "add": np.float32(bad)})
    assert not report.finite
    faulty = [name for name, fine in zip(params._fields, report.finite_leaves, strict=False) if not fine]
    assert faulty == ["b"]
    chex.assert_trees_all_equal(state._replace(key=None, step=before.step), before)
    assert int(state.step) == 2
    state, report = step(state, {**make_batch(1), "add": np.float32(1)})
    assert report.finite
    assert state.carry.tolist() == [2, 2]


def test_nothing_changes_any_more_after_a_step_that_was_not_finite():
    optimizer = optax.adam(0.1)
    step = train.make_step(lambda params, batch, key: (jnp.sum(params * batch), {}), optimizer)
    state = train.init(jnp.ones(2), optimizer, jax.random.key(0))
    state, _ = step(state, jnp.float32(1))
    before = jax.tree.map(np.asarray, state._replace(key=None))
    for batch in (jnp.nan, 1.0, 2.0):
        state, report = step(state, jnp.float32(batch))
        assert report.finite == np.isfinite(batch)
        chex.assert_trees_all_equal(state._replace(key=None), before._replace(step=np.int32(2), alive=np.array(False)))
    with pytest.raises(ValueError, match="`nonfinite` must be"):
        train.make_step(scalar_loss, optimizer, nonfinite=untyped("ignore"))


def test_a_batch_of_nothing_but_padding_has_no_gradient(params):
    batch = {**make_batch(0), "mask": np.zeros((5, 4), bool)}
    for loss_fn in (scalar_loss, mean_loss):
        optimizer = optax.sgd(1.0)
        state, report = train.make_step(loss_fn, optimizer)(train.init(params, optimizer, jax.random.key(1)), batch)
        assert report.finite
        assert report.loss == 0
        chex.assert_trees_all_equal(state.params, params)


def test_a_carry_goes_from_batch_to_batch_as_in_the_whole():
    """Truncated BPTT by hand: values as of the whole text, gradients of a batch's own steps."""
    cell, optimizer = jaxseq.lstm(3), optax.sgd(0.0)
    params = params_of(cell)
    batch = make_batch(0, steps=6)

    def loss_fn(params, batch, key, carry):
        carry, ys = jaxseq.unroll(cell, params, batch["xs"], carry, mask=batch["mask"])
        return jnp.mean(ys**2), {"ys": ys}, carry

    state = train.init(params, optimizer, jax.random.key(1), carry=cell.carry(params, (4,)))
    step = train.make_step(loss_fn, optimizer)
    chunks = []
    for half in (slice(0, 3), slice(3, 6)):
        state, report = step(state, {name: leaf[half] for name, leaf in batch.items()})
        chunks.append(report.aux["ys"])
    carry, ys = jax.jit(lambda params: jaxseq.unroll(cell, params, batch["xs"], mask=batch["mask"]))(params)
    np.testing.assert_allclose(np.concatenate(chunks), ys, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(state.carry, carry, rtol=1e-6, atol=1e-7)

    parts = jax.tree.map(lambda leaf: np.stack([leaf[:3], leaf[3:]]), batch)
    state = train.init(params, optimizer, jax.random.key(1), carry=cell.carry(params, (4,)))
    state, report = train.make_step(loss_fn, optimizer, accumulate=2)(state, parts)
    np.testing.assert_allclose(np.concatenate(list(report.aux["ys"])), ys, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(state.carry, carry, rtol=1e-6, atol=1e-7)


def test_an_ensembles_members_are_trained_as_if_alone():
    keys = jax.random.split(jax.random.key(3), 3)

    @jax.jit
    def start(key):
        return train.init(CELL.init(key, 2), OPTIMIZER, key)

    together, step = jax.jit(jax.vmap(start))(keys), train.make_step(scalar_loss, OPTIMIZER, ensemble=True)
    alone, single = [start(key) for key in keys], train.make_step(scalar_loss, OPTIMIZER)
    for number in range(2):
        batch = make_batch(number)
        together, report = step(together, batch)
        alone, reports = zip(*[single(state, batch) for state in alone], strict=True)
        np.testing.assert_allclose(report.loss, [report.loss for report in reports], rtol=1e-5)
    for member, state in enumerate(alone):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=member: np.asarray(leaf)[i], together.params),
            state.params,
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_split_module_is_trained_like_any_params():
    model = nn.SequenceClassifier(jaxseq.lstm(4), 2, 3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)

    def loss_fn(params, batch, key):
        logits = nnx.merge(graph, params)(batch["xs"], mask=batch["mask"], key=key)
        return losses.mean(losses.cross_entropy(logits, batch["labels"])), {}

    rng = np.random.default_rng(0)
    batch = {
        "xs": rng.normal(size=(6, 5, 2)).astype(np.float32),
        "mask": np.ones((6, 5), bool),
        "labels": np.arange(6) % 3,
    }
    optimizer = optax.adam(0.1)
    state, step = train.init(params, optimizer, jax.random.key(0)), train.make_step(loss_fn, optimizer)
    values = []
    for _ in range(40):
        state, report = step(state, batch)
        values.append(float(report.loss))
    assert values[-1] < 0.1 < values[0]
    nnx.update(model, state.params)
    assert (model(batch["xs"], mask=batch["mask"]).argmax(-1) == batch["labels"]).all()


@pytest.mark.parametrize(
    ("loss_fn", "error", "message"),
    [
        (
            lambda params, batch, key: jnp.float32(1),
            TypeError,
            r"must return \(loss, aux\); got .*Without metrics, aux is {}",
        ),
        (lambda params, batch, key: (1.0, {}, 3), TypeError, r"must return \(loss, aux\); got a tuple of 3"),
        (
            lambda params, batch, key: metrics.Mean(*untyped((1.0, 1))),
            TypeError,
            r"must return \(loss, aux\); got Mean",
        ),
        (
            lambda params, batch, key: (params.b, {}),
            TypeError,
            r"floating scalar or a metrics.Mean; got float32 \(9,\)",
        ),
        (
            lambda params, batch, key: (jnp.int32(1), {}),
            TypeError,
            r"floating scalar or a metrics.Mean; got int32 \(\)",
        ),
    ],
)
def test_a_loss_that_is_none_is_refused(loss_fn, error, message, params):
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    with pytest.raises(error, match=message):
        train.make_step(loss_fn, OPTIMIZER)(state, make_batch(0))


def carried(params, batch, key, carry):
    return jnp.sum(params.b), {}, carry


@pytest.mark.parametrize("loss_fn", [carried, jax.jit(carried), lambda *args: carried(*args)])
def test_a_carry_that_was_left_out_is_named(loss_fn, params):
    """Where the loss says what it takes; `*args` do not, and Python's own error stays."""
    message = r"`loss_fn` takes a carry; pass `carry=` to `train\.init`, or to `train\.evaluator`"
    named = loss_fn.__name__ == "carried"
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    with pytest.raises(TypeError, match=message if named else "carry"):
        train.make_step(loss_fn, OPTIMIZER)(state, 0)
    if named:
        with pytest.raises(TypeError, match=message):
            train.evaluator(loss_fn, [0])


def test_a_carry_that_nobody_takes_is_named(params):
    with pytest.raises(TypeError, match="`loss_fn` takes no carry; leave `carry` out, or make it the fourth"):
        train.evaluator(scalar_loss, [0], carry=jnp.zeros(2))
    state = train.init(params, OPTIMIZER, jax.random.key(0), carry=jnp.zeros(2))
    with pytest.raises(TypeError, match="`loss_fn` takes no carry"):
        train.make_step(scalar_loss, OPTIMIZER)(state, make_batch(0))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            optax.adam,
            r"must be an optax\.GradientTransformation; got <function adam .*\. Call it: optax\.adam\(1e-3\)\.",
        ),
        (1e-3, r"`optimizer` must be an optax\.GradientTransformation; got 0\.001\.$"),
        (None, r"got None\.$"),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer, message, params):
    with pytest.raises(TypeError, match=message):
        train.init(params, optimizer, jax.random.key(0))
    with pytest.raises(TypeError, match=message):
        train.make_step(scalar_loss, optimizer)


def test_other_mistakes_are_named(params):
    with pytest.raises(ValueError, match="`params` must hold arrays; got none"):
        train.init((), OPTIMIZER, jax.random.key(0))
    with pytest.raises(TypeError, match=r"`params\['n'\]` must be floating to be trained; got int32"):
        train.init({"n": jnp.arange(3)}, OPTIMIZER, jax.random.key(0))
    for params_of_none, error, message in (
        ({"w": jnp.array([1 + 1j])}, TypeError, r"`params\['w'\]` must be real to be trained; got complex64"),
        ({"w": "a"}, TypeError, r"`params\['w'\]` must be an array; got str"),
        ({"w": np.array([None])}, TypeError, r"`params\['w'\]` must be floating to be trained; got object"),
        (None, TypeError, "`params` must be a pytree of arrays; got None"),
    ):
        with pytest.raises(error, match=message):
            train.init(params_of_none, OPTIMIZER, jax.random.key(0))
    for key in (0, jnp.zeros(2, jnp.uint32)):
        with pytest.raises(TypeError, match=r"`key` must be a jax.random.key\(seed\)"):
            train.init(params, OPTIMIZER, untyped(key))
    with pytest.raises(ValueError, match="`accumulate` must be a positive int; got 0"):
        train.make_step(scalar_loss, OPTIMIZER, accumulate=0)
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    with pytest.raises(
        ValueError, match=r"`batch\['mask'\]` must be \[accumulate, B, ...\] with accumulate = 2; got \(5, 4\)"
    ):
        train.make_step(scalar_loss, OPTIMIZER, accumulate=2)(state, make_batch(0))
    state = train.init(params, OPTIMIZER, jax.random.key(0), carry=jnp.zeros(2))
    with pytest.raises(
        ValueError, match=r"must return a carry like the one it was given, float32 \(2,\); got float32 \(3,\)"
    ):
        train.make_step(lambda params, batch, key, carry: (jnp.sum(params.b), {}, jnp.zeros(3)), OPTIMIZER)(state, 0)


def test_complex_params_are_refused_wherever_they_would_be_trained():
    """Down the gradient that JAX gives of them, a loss of |w|² would climb."""
    params, optimizer = {"w": jnp.array([[1 + 1j]])}, optax.sgd(0.1)
    state = train.init({"w": jnp.ones((1, 1))}, optimizer, jax.random.key(0))._replace(params=params)
    step = train.make_step(lambda params, batch, key: (jnp.sum(jnp.abs(params["w"]) ** 2), {}), optimizer)
    with pytest.raises(TypeError, match=r"`state\.params\['w'\]` must be real to be trained; got complex64"):
        step(state, 0)
    for penalty in (losses.l1, losses.l2):
        with pytest.raises(TypeError, match=r"`params\['w'\]` must be real; got complex64 \(1, 1\)"):
            penalty(params)
    with pytest.raises(ValueError, match="must hold a floating matrix to adapt; got none"):
        train.adapters.init(jax.random.key(0), params, 1)


def test_microbatches_average_scalars_of_any_kind():
    def loss_fn(params, batch, key):
        return jnp.sum(params * batch), {
            "int": batch.astype(int),
            "bool": batch > 1,
            "bfloat16": batch.astype(jnp.bfloat16),
        }

    optimizer = optax.sgd(0.1)
    state = train.init(jnp.ones(()), optimizer, jax.random.key(0))
    _, report = train.make_step(loss_fn, optimizer, accumulate=4)(state, np.arange(4, dtype=np.float32))
    assert jax.tree.map(float, report.aux) == {"int": 1.5, "bool": 0.5, "bfloat16": 1.5}


def test_narrow_gradients_are_added_up_wide():
    """In bfloat16, 256 + 1 is 256."""
    optimizer = optax.sgd(1.0)
    state = train.init(jnp.zeros((), jnp.bfloat16), optimizer, jax.random.key(0))
    step = train.make_step(lambda params, batch, key: (jnp.sum(params * batch), {}), optimizer, accumulate=512)
    state, report = step(state, jnp.ones(512, jnp.bfloat16))
    assert (state.params, report.gradient_norm, report.loss.dtype) == (-1, 1, jnp.float32)


@pytest.mark.parametrize(("scale", "rate"), [(1e20, 1e-30), (1e38, 10.0)], ids=["norm", "params"])
def test_what_overflows_later_than_the_gradient_is_not_finite_either(scale, rate):
    optimizer = optax.sgd(rate)
    state = train.init(jnp.ones(2), optimizer, jax.random.key(0))
    state, report = train.make_step(lambda p, b, k: (jnp.sum(p * scale), {}), optimizer)(state, 0)
    assert not report.finite
    assert state.params.tolist() == [1, 1]


def test_optimizers_that_look_at_the_loss_or_share_buffers_work():
    def loss_fn(params, batch, key):
        return jnp.sum((params - 3) ** 2), {}

    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=2))
    noisy = optax.noisy_sgd(0.1, eta=1e-6, key=jax.random.key(3))
    for optimizer in (plateau, optax.contrib.prodigy(), noisy, noisy, optax.MultiSteps(optax.sgd(0.1), 2)):
        state, step = train.init(jnp.zeros(2), optimizer, jax.random.key(0)), train.make_step(loss_fn, optimizer)
        state, report = step(state, 0)
        for _ in range(3):
            state, report = step(state, 0)
        assert report.finite
        assert report.loss < 18


def test_another_optimizers_state_is_refused(params):
    state = train.init(params, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(
        ValueError,
        match=r"must have the optimizer state of this step's optimizer, .* Give train\.init and make_step the same",
    ):
        train.make_step(scalar_loss, OPTIMIZER)(state, make_batch(0))


def test_an_entry_that_the_batch_has_not_is_told():
    step = train.make_step(lambda params, batch, key: (jnp.sum(batch["real"]), {}), optax.sgd(0.1))
    state = train.init({"w": jnp.ones(2)}, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(KeyError, match=r"`loss_fn` reads real of the batch .*, which has .*x"):
        step(state, {"x": jnp.ones(2)})
