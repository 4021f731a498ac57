"""One training step: loss, gradients, update.

A `TrainState` is everything that a run carries from step to step, and `step` is a pure function of it and a batch:

    key_t           = fold_in(key, t)
    loss, gradients = value_and_grad(loss_fn)(params, batch, key_t)
    updates, opt'   = optimizer.update(gradients, opt, params)
    params'         = params + updates        where all of it is finite; else params, opt and carry stay
    t'              = t + 1

What a loss hands from batch to batch without a gradient, the carry of a recurrent net over a long text, travels in the
state too.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseq import _meshes, check
from jaxseq._promote import allowed
from jaxseq.train._elementwise import wide
from jaxseq.train._loss import LossFn, apply_loss, check_loss
from jaxseq.train._params import numbers, trainable
from jaxseq.train._split import Split
from jaxseq.train.metrics import merge
from jaxseq.train.metrics._compute import is_metric
from jaxseq.typing import Params


class TrainState(NamedTuple):
    """What a run carries from step to step; of an ensemble, every leaf leads with the members."""

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    """int32 []: the steps taken, counting those that were skipped."""
    key: jax.Array
    """Of the whole run; step t draws from `fold_in(key, t)`."""
    alive: jax.Array
    """bool []: False from a step on that was not finite, under `nonfinite="stop"`; then nothing changes any more. An
    ensemble's members stop together."""
    carry: Any = None
    """What `loss_fn` hands from batch to batch; None: nothing."""
    split: Split | None = None
    """How `shard_state` split params and opt_state over devices; None: it did not."""


class Report(NamedTuple):
    """What a step tells about itself; of an ensemble, every leaf leads with the members."""

    loss: jax.Array
    """[]: the mean over the batch."""
    weight: jax.Array
    """[]: what the batch counts in a mean over batches: the count of a loss given as a `Mean`, else 1."""
    aux: Any
    gradient_norm: jax.Array
    """[]: the global norm, before the optimizer clips it."""
    finite: jax.Array
    """bool []: loss, gradients, norm and new params were, the optimizer's state stayed so, and the carry had no NaN;
    otherwise the state stayed."""
    finite_leaves: jax.Array
    """bool [leaves of params]: whose gradients were, or, where all were, whose new values."""
    step: jax.Array
    """int32 []: the step's number, from 0."""
    finite_optimizer: jax.Array
    """bool []: no number in the optimizer's state became NaN, or infinite where it was not."""
    finite_carry: jax.Array
    """bool []: the carry had no NaN."""


def init(params: Params, optimizer: optax.GradientTransformation, key: jax.Array, *, carry: Any = None) -> TrainState:
    """The state before the first step. What is given is copied, because steps give its buffers away.

    For an ensemble, vmap it over keys: `jax.jit(jax.vmap(lambda key: init(make_params(key), optimizer, key)))(keys)`.

    Args:
      params: any pytree of arrays: a NamedTuple, a tuple of them, an `nnx.State` from `nnx.split(model, nnx.Param)`.
      optimizer: of optax.
      key: a `jax.random.key`.
      carry: a pytree of arrays that `loss_fn` takes as its fourth argument and returns, of the same shapes, as its
        third result; no gradient goes through it from one step to the one before. None: `loss_fn` has neither.

    Raises:
      TypeError: a leaf of params is not of real floats, the optimizer is none of optax, or the key is not one.
      ValueError: there are no params.
    """
    _check_optimizer(optimizer)
    trainable("params", params)
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(f"`key` must be a jax.random.key(seed); got {type(key).__name__}")
    if carry is not None:
        numbers("carry", carry)
    with allowed():
        opt_state = optimizer.init(params)
    state = TrainState(params, opt_state, jnp.zeros((), jnp.int32), key, jnp.array(True), carry)
    # With a dtype of their own, also those of Python's numbers: else the second step, of other types, compiles anew.
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.asarray(leaf).dtype, copy=True), state)


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    nonfinite: Literal["stop", "skip"] = "stop",
    ensemble: bool = False,
) -> Callable[[TrainState, Any], tuple[TrainState, Report]]:
    """A jitted training step `(state, batch) -> (state, report)`.

    The state's buffers are given away (donated, in JAX's word), and the new state takes their place in memory: use the
    state that is returned. Of the one that was passed JAX says that "Array has been deleted". A step whose loss,
    gradients or new params are not finite changes nothing but the step's number, and says so in `report.finite`; look
    at it, or leave that to `fit`, which raises or warns.

    Args:
      loss_fn: `(params, batch, key) -> (loss, aux)`. The loss is a scalar, or a `metrics.Mean`, whose total and count
        make the mean exact over batches of different size. aux is any pytree for a loop of your own; `fit` reports it,
        and takes a dict of metrics, scalars and such dicts alone. The key is None in evaluation.
      optimizer: of optax, the one that `init` was given. It gets the loss as `value`, for those that look at it; line
        searches, which call the loss themselves, are not supported.
      accumulate: n > 1 takes batches whose leaves are `[n, ...]`, n microbatches of equal shape, and makes one update
        of them: the gradient of their mean, weighted by count where the loss is a `Mean`. Metrics in aux are
        added, scalars averaged, other leaves stacked `[n, ...]`.
      nonfinite: what follows a step that was not finite. "stop": nothing changes any more, `state.alive` is False;
        "skip": the steps after it are made.
      ensemble: steps all members at once, by `jax.vmap` over the state; they see the same batch, each with its own
        key.

    Raises:
      TypeError: the optimizer is none of optax; the loss is neither a floating scalar nor a Mean, or not given together
        with an aux; `loss_fn` takes a carry and the state has none, or the other way round.
      ValueError: a batch's leaf does not lead with `accumulate`, the carry changes its shape, or the state is another
        optimizer's.
    """
    accumulate = check.positive_int("accumulate", accumulate)
    check.one_of("nonfinite", nonfinite, ("stop", "skip"))
    check.switch("ensemble", ensemble)
    check_loss(loss_fn)
    _check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)

    def total(params, batch, key, carry):
        loss, aux, carry = apply_loss(loss_fn, params, batch, key, carry)
        return loss.total, (loss.count, aux, carry)

    def differentiate(params, batch, key, carry):
        (loss, (count, aux, carry)), gradients = jax.value_and_grad(total, has_aux=True)(params, batch, key, carry)
        return (loss, count, gradients), aux, carry

    def accumulated(params, batches, key, carry):
        _check_microbatches(batches, accumulate)

        def add(sums_and_carry, batch_and_key):
            sums, carry = sums_and_carry
            batch, key = batch_and_key
            more, aux, carry = differentiate(params, batch, key, carry)
            return (merge(sums, more), carry), aux

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        shapes, _, _ = jax.eval_shape(differentiate, params, first, key, carry)
        sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, _sum_dtype(leaf)), shapes)
        (sums, carry), aux = _meshes.scan(add, (sums, carry), (batches, jax.random.split(key, accumulate)))
        return sums, jax.tree.map(_add_up, aux, is_leaf=is_metric), carry

    def step(state, batch):
        gradients_of = differentiate if accumulate == 1 else accumulated
        trainable("state.params", state.params)
        key = jax.random.fold_in(state.key, state.step)
        params = state.split.gather(state.params) if state.split else state.params
        (loss, count, gradients), aux, carry = gradients_of(params, batch, key, state.carry)
        divisor = jnp.where(count == 0, 1, count)
        mean = lambda leaf, like: (leaf.astype(wide(leaf)) / divisor.astype(wide(leaf))).astype(like.dtype)
        loss, gradients = mean(loss, loss), jax.tree.map(mean, gradients, state.params)
        gradients = state.split.constrain(gradients) if state.split else gradients
        norm = optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(wide(leaf)), gradients))
        _check_optimizer_state(optimizer, state)
        with allowed():
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, value=loss)
            params = optax.apply_updates(state.params, updates)
        gradients_finite, params_finite = _finite_leaves(gradients), _finite_leaves(params)
        finite_leaves = jnp.where(jnp.all(gradients_finite), params_finite, gradients_finite)
        finite_optimizer, finite_carry = _stays_finite(opt_state, state.opt_state), ~_has_nan(carry)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.all(finite_leaves) & finite_optimizer & finite_carry
        carry_before = _meshes.split_as(state.carry, jax.tree.map(jax.typeof, carry))
        new, old = (params, opt_state, carry), (state.params, state.opt_state, carry_before)
        goes_on = finite if nonfinite == "skip" else together(finite)
        made = goes_on & state.alive
        params, opt_state, carry = jax.tree.map(lambda new, old: jnp.where(made, new, old), new, old)
        params, opt_state = state.split.constrain((params, opt_state)) if state.split else (params, opt_state)
        alive = state.alive if nonfinite == "skip" else made
        report = Report(loss, count, aux, norm, finite, finite_leaves, state.step, finite_optimizer, finite_carry)
        step = state.step + state.alive.astype(state.step.dtype)
        return TrainState(params, opt_state, step, state.key, alive, carry, state.split), report

    def together(finite):
        """Whether all members are finite: an ensemble stops as one."""
        return jax.lax.pmin(finite.astype(int), "members") == 1 if ensemble else finite

    members = functools.partial(jax.vmap, in_axes=(0, None), axis_name="members")
    return jax.jit(members(step) if ensemble else step, donate_argnums=0)


def _check_microbatches(batches, accumulate):
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if jnp.shape(leaf)[:1] != (accumulate,):
            raise ValueError(
                f"`batch{jax.tree_util.keystr(path)}` must lead with accumulate = {accumulate} microbatches; "
                f"got {jnp.shape(leaf)}. Reshape [{accumulate} * B, ...] to [{accumulate}, B, ...]."
            )


def _sum_dtype(leaf):
    return wide(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype


def _add_up(value):
    if is_metric(value):
        return jax.tree.map(lambda leaf: leaf.sum(0), value)
    return value.astype(wide(value)).mean(0) if value.ndim == 1 else value


def _finite_leaves(tree):
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def _has_nan(tree):
    """Infinities are let pass: the carry of a running maximum starts from one."""
    return _any([jnp.isnan(leaf) for leaf in _floats(tree)])


def _stays_finite(new, old):
    """Infinities that were there are let pass: the best loss so far starts from one."""
    spoilt = [
        jnp.isnan(leaf) | (jnp.isinf(leaf) & jnp.isfinite(before))
        for leaf, before in zip(_floats(new), _floats(old), strict=True)
    ]
    return ~_any(spoilt)


def _floats(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _any(flags):
    return functools.reduce(jnp.logical_or, map(jnp.any, flags), jnp.array(False))


def _check_optimizer(optimizer):
    """By its functions: `optax.MultiSteps` is no GradientTransformation."""
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        hint = " Call it: optax.adam(1e-3)." if callable(optimizer) else ""
        raise TypeError(f"`optimizer` must be an optax.GradientTransformation; got {check.short(optimizer)}.{hint}")


def _check_optimizer_state(optimizer, state):
    with allowed():
        expected = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    if jax.tree.structure(state.opt_state) != expected:
        raise ValueError(
            f"`state` must be of the step's own optimizer, {check.brief(expected)}; "
            f"got {check.brief(jax.tree.structure(state.opt_state))}. "
            "Give train.init and make_step the same."
        )
