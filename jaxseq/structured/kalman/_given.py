"""Arguments of the public functions, checked and brought into one form."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq.structured import _check
from jaxseq.structured.kalman._model import Gaussians, Model, Params, whole
from jaxseq.typing import AnyArray, Shape

_AXES = Params("Z", "Z, Z", "Z, Z", "Z", "Z, Z", "X, Z", "X", "X, X")._asdict()  # pyright: ignore[reportArgumentType]


class Steps(NamedTuple):
    """Observations, with zeros where there are none; and flags `[T, *B]`, with B of 1s if all rows are alike.

    Covariances depend on flags and matrices only, so they have the batch axes of these: without a mask, all rows share
    one covariance.
    """

    xs: jax.Array  # [T, *B, X]
    seen: jax.Array | None  # [T, *B, X], or [T, *B, 1] for all features of a step; None: all are seen
    real: jax.Array
    follows: jax.Array  # False up to and including a row's first real step

    @property
    def moves(self) -> jax.Array:
        """The steps into which a transition leads."""
        return self.real & self.follows

    @property
    def observed(self) -> jax.Array:
        """The steps on which at least one feature is seen."""
        return self.real if self.seen is None else jnp.any(self.seen, -1)


def enter(
    params: Params, xs: AnyArray, mask: Any, missing: Any, parallel: Any, *, ahead: int = 0
) -> tuple[Model, Steps]:
    """Returns the checked arguments of the public functions, with `ahead` further steps that are not observed."""
    check.switch("parallel", parallel)
    given = _arrays(params)
    xs = check.inputs("xs", "T, B, X", xs, list(given.values()))
    T, *batch, features = xs.shape
    X = given["observation"].shape[-2]
    if features != X:
        raise ValueError(
            f"`xs` must have X = {X} features, the rows of `params.observation`; got {xs.dtype} {xs.shape}"
        )
    _fit_together(given, T + ahead, tuple(batch))
    mask = check.flags("mask", mask, xs.shape[:-1])
    by_feature = getattr(missing, "ndim", None) == xs.ndim
    missing = check.flags("missing", missing, *((xs.shape, "T, B, X") if by_feature else (xs.shape[:-1], "T, B")))
    model, steps = _prepared(given, xs, mask, missing, ahead)
    _check.no_nan("xs", steps.xs)
    return model, steps


def checked(params: Params, T: int, batch: Shape) -> dict[str, jax.Array]:
    """Returns the arrays of the params that are not None, by name, after checking them for T steps."""
    given = _arrays(params)
    _fit_together(given, T, batch)
    return given


def spread(given: dict[str, jax.Array], T: int, batch_axes: int) -> Model:
    """Returns the model of params by name; biases that are None become zeros."""
    observation = given["observation"]
    zeros = {"transition_bias": observation.shape[-1], "observation_bias": observation.shape[-2]}
    zeros = {name: jnp.zeros(size, observation.dtype) for name, size in zeros.items()}
    return Model(**{name: _lifted(name, leaf, T, batch_axes) for name, leaf in {**zeros, **given}.items()})


def by_step(model: Model) -> tuple[Model, dict[str, jax.Array]]:
    """Returns the model of a single step, and by name the params that change over time, `[T, ...]`."""
    changing, same = {}, {}
    for name, leaf in model._asdict().items():
        if not name.startswith("initial"):
            (same if leaf.shape[0] == 1 else changing)[name] = leaf
    return model._replace(**{name: leaf[0] for name, leaf in same.items()}), changing


def initial(model: Model, steps: Steps) -> Gaussians:
    """Returns the state before any step; its covariance has the batch axes that all covariances will have."""
    matrices = model.transition, model.transition_cov, model.observation, model.observation_cov
    flags = steps.real if steps.seen is None else steps.seen[..., 0]
    batch = jnp.broadcast_shapes(flags.shape[1:], *(matrix.shape[1:-2] for matrix in matrices))
    mean = jnp.broadcast_to(model.initial_mean, (*steps.xs.shape[1:-1], *model.initial_mean.shape))
    return Gaussians(mean, jnp.broadcast_to(model.initial_cov, (*batch, *model.initial_cov.shape)))


def as_results(states: Gaussians, steps: Steps) -> Gaussians:
    """Returns the states as results: with a covariance for each row, and zeros on False steps."""
    return masking.keep(steps.real, whole(states))


def axes(name: str) -> int:
    """Returns the number of axes of a param that is the same at all steps."""
    return len(_AXES[name].split(", "))


def is_by_step(name: str, leaf: jax.Array | None) -> bool:
    """Returns whether a param is given for each step."""
    return leaf is not None and jnp.ndim(leaf) > axes(name)


def _arrays(params):
    """Returns the arrays that are not None, by name, after checking that they have one dtype."""
    if not isinstance(params, Params):
        raise TypeError(f"`params` must be kalman.Params; got {type(params).__name__}")
    given = {name: value for name, value in params._asdict().items() if value is not None or "bias" not in name}
    given = {name: check.array(f"params.{name}", _AXES[name], value) for name, value in given.items()}
    dtypes = {value.dtype for value in given.values()}
    if len(dtypes) > 1 or not dtypes <= {jnp.dtype("float32"), jnp.dtype("float64")}:
        raise TypeError(f"`params` must be all float32 or all float64; got {', '.join(sorted(map(str, dtypes)))}")
    observation = given["observation"]
    if observation.ndim < 2 or 0 in observation.shape[-2:]:
        raise ValueError(
            f"`params.observation` must be [X, Z], with features; got {observation.dtype} {observation.shape}"
        )
    return given


def _fit_together(given, T, batch):
    """Raises unless the params have the shapes that `Params` requires for T steps."""
    sizes = dict(zip("XZ", given["observation"].shape[-2:], strict=True))
    for name, value in given.items():
        shape = tuple(sizes[axis] for axis in _AXES[name].split(", "))
        allowed, more = [shape], ""
        if not name.startswith("initial"):
            times, words = (max(T - 1, 0), "T-1") if name.startswith("transition") else (T, "T")
            allowed += [(times, *shape), (times, *batch, *shape)]
            more = f", or for each step [{words}, {_AXES[name]}] = {allowed[1]} or [{words}, B, {_AXES[name]}]"
        if value.shape not in allowed:
            raise ValueError(
                f"`params.{name}` must be [{_AXES[name]}] = {shape}, by `params.observation` [..., X, Z] = "
                f"{given['observation'].shape}{more}; got {value.dtype} {value.shape}"
            )


@functools.partial(jax.jit, static_argnames="ahead")
def _prepared(given, xs, mask, missing, ahead):
    T, *batch, _ = xs.shape
    real = jnp.ones((T, *[1] * len(batch)), bool) if mask is None else mask
    seen = real[..., None]
    if missing is not None:
        seen = seen & ~(missing if missing.ndim == xs.ndim else missing[..., None])
    xs = jnp.where(seen, xs, 0)
    if ahead:
        xs, seen, real = (
            jnp.pad(x, [(0, ahead)] + [(0, 0)] * (x.ndim - 1), constant_values=value)
            for x, value in ((xs, 0), (seen, False), (real, True))
        )
    all_seen = mask is None and missing is None and not ahead
    follows = jnp.cumsum(real, 0) > real.astype(int)
    return spread(given, T + ahead, len(batch)), Steps(xs, None if all_seen else seen, real, follows)


def _lifted(name, leaf, T, batch_axes):
    if name.startswith("initial"):
        return leaf
    if leaf.ndim == axes(name):
        return leaf.reshape(1, *[1] * batch_axes, *leaf.shape)
    if leaf.ndim == axes(name) + 1:
        leaf = leaf.reshape(leaf.shape[0], *[1] * batch_axes, *leaf.shape[1:])
    if name.startswith("transition"):
        leaf = jnp.pad(leaf, [(1, 0)] + [(0, 0)] * (leaf.ndim - 1))[:T]
    return leaf
