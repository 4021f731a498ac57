"""One training step: loss, gradients, update.

A `TrainState` is all that a run carries from step to step, and `step` is a pure function of it and a batch:

    key_t           = fold_in(key, t)
    loss, gradients = value_and_grad(loss_fn)(params, batch, key_t)
    updates, opt'   = optimizer.update(gradients, opt, params)
    params'         = params + updates        if all is finite; otherwise params, opt and carry do not change
    t'              = t + 1

The state also holds the carry that a loss hands from batch to batch without a gradient, such as the state of a
recurrent net over a long text.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

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
    """All that a run carries from step to step; for an ensemble, every leaf has a leading axis of members."""

    params: Params
    opt_state: Any
    step: jax.Array
    """int32 []: the number of steps, including skipped ones."""
    key: jax.Array
    """The key of the whole run; step t uses `fold_in(key, t)`."""
    alive: jax.Array
    """bool []: False after a step that was not finite, with `nonfinite="stop"`; from then on nothing changes. The
    members of an ensemble stop together."""
    carry: Any = None
    """What `loss_fn` hands from batch to batch; None if it has no carry."""
    split: Split | None = None
    """How `shard_state` split params and opt_state over devices; None if it did not."""


class Report(NamedTuple):
    """The numbers that a step reports; for an ensemble, every leaf has a leading axis of members."""

    loss: jax.Array
    """[]: the mean loss over the batch."""
    weight: jax.Array
    """[]: the weight of the batch in a mean over batches: the count of a loss that is a `Mean`, else 1."""
    aux: Any
    gradient_norm: jax.Array
    """[]: the global norm of the gradient, before the optimizer clips it."""
    finite: jax.Array
    """bool []: whether loss, gradients, norm and new params were finite, the optimizer's state stayed finite, and the
    carry had no NaN. If False, the state was not changed."""
    finite_leaves: jax.Array
    """bool [leaves of params]: which gradients were finite; or if all were, which new params were."""
    step: jax.Array
    """int32 []: the number of the step, from 0."""
    finite_optimizer: jax.Array
    """bool []: no number in the optimizer's state became NaN, and no finite number became infinite."""
    finite_carry: jax.Array
    """bool []: the carry had no NaN."""


def init(
    params: Params, optimizer: optax.GradientTransformation | optax.MultiSteps, key: jax.Array, *, carry: Any = None
) -> TrainState:
    """Returns the state before the first step; it holds copies, because steps donate its buffers.

    For an ensemble, vmap it over keys: `jax.jit(jax.vmap(lambda key: init(make_params(key), optimizer, key)))(keys)`.

    Args:
      params: any pytree of arrays: a NamedTuple, a tuple of them, an `nnx.State` from `nnx.split(model, nnx.Param)`.
      optimizer: an optax transformation.
      key: a `jax.random.key`.
      carry: a pytree of arrays that `loss_fn` takes as its fourth argument, and returns with the same shapes as its
        third result. No gradient flows through it from step to step. None: `loss_fn` has no carry.

    Raises:
      TypeError: a leaf of params does not hold real floats, or `optimizer` or `key` has the wrong type.
      ValueError: `params` has no leaves.
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
    # Every leaf gets a dtype of its own: Python numbers are weakly typed, and the second step would be compiled again.
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.asarray(leaf).dtype, copy=True), state)


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation | optax.MultiSteps,
    *,
    accumulate: int = 1,
    nonfinite: Literal["stop", "skip"] = "stop",
    ensemble: bool = False,
) -> Callable[[TrainState, Any], tuple[TrainState, Report]]:
    """Returns a jitted training step `(state, batch) -> (state, report)`.

    The step donates the state's buffers to the new state, so use only the state that it returns; JAX raises "Array has
    been deleted" for the old one. If the loss, the gradients or the new params are not finite, the step changes only
    its own number, and sets `report.finite` to False. Check that flag, or use `fit`, which raises or warns.

    Args:
      loss_fn: `(params, batch, key) -> (loss, aux)`. The loss is a scalar, or a `metrics.Mean`, whose total and count
        make the mean exact over batches of different size. aux may be any pytree if you write the loop; `fit` accepts a
        (nested) dict of metrics and scalars. The key is None in evaluation.
      optimizer: the optax transformation that `init` was given. It gets the loss as `value`. Line searches, which call
        the loss themselves, are not supported.
      accumulate: n > 1 takes batches with leaves `[n, ...]`, n microbatches of equal shape, and makes one update from
        the gradient of their mean. If the loss is a `Mean`, the mean is weighted by its counts. Metrics in aux are
        added up, scalars are averaged, and other leaves are stacked `[n, ...]`.
      nonfinite: what happens after a step that was not finite. "stop": nothing changes any more, and `state.alive` is
        False. "skip": the following steps are made.
      ensemble: whether the state has a leading axis of members, over which the step is mapped by `jax.vmap`. All
        members get the same batch, each with its own key.

    Raises:
      TypeError: `optimizer` is not of optax; the loss is neither a floating scalar nor a Mean; `loss_fn` returns no
        aux; or `loss_fn` takes a carry and the state has none, or the reverse.
      ValueError: a leaf of the batch does not have `accumulate` as its first axis, the carry changes its shape, or the
        state is of another optimizer.
    """
    accumulate = check.positive_int("accumulate", accumulate)
    check.one_of("nonfinite", nonfinite, ("stop", "skip"))
    check.switch("ensemble", ensemble)
    check_loss(loss_fn)
    _check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(cast("optax.GradientTransformation", optimizer))

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
        """Returns whether all members are finite, since an ensemble stops as one."""
        return jax.lax.pmin(finite.astype(int), "members") == 1 if ensemble else finite

    members = functools.partial(jax.vmap, in_axes=(0, None), axis_name="members")
    return jax.jit(members(step) if ensemble else step, donate_argnums=0)


def _check_microbatches(batches, accumulate):
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if jnp.shape(leaf)[:1] != (accumulate,):
            raise ValueError(
                f"`batch{jax.tree_util.keystr(path)}` must be [accumulate, B, ...] with accumulate = {accumulate}; "
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
    """Returns whether a tree has NaN. Infinity is allowed: the carry of a running maximum starts from one."""
    return _any([jnp.isnan(leaf) for leaf in _floats(tree)])


def _stays_finite(new, old):
    """Returns whether no leaf became NaN or infinite. Infinity may stay: the best loss so far starts from one."""
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
    """Raises unless `optimizer` has init and update; `optax.MultiSteps` is no instance of GradientTransformation."""
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        hint = " Call it: optax.adam(1e-3)." if callable(optimizer) else ""
        raise TypeError(f"`optimizer` must be an optax.GradientTransformation; got {check.short(optimizer)}.{hint}")


def _check_optimizer_state(optimizer, state):
    with allowed():
        expected = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    if jax.tree.structure(state.opt_state) != expected:
        raise ValueError(
            f"`state` must have the optimizer state of this step's optimizer, {check.brief(expected)}; "
            f"got {check.brief(jax.tree.structure(state.opt_state))}. "
            "Give train.init and make_step the same optimizer."
        )
