"""Runs an LSTM by NVIDIA's cuDNN: all steps in one call, and the gradient in another.

JAX has that call in `jax.experimental.rnn`: batch-major, in float32, with a length for each row. Its weights are one
vector, W_xᵀ, W_hᵀ and two biases, in the order of gates i f g o. The second bias is zero here.

A mask of any pattern can be turned into lengths: padding holds the carry, so a row's real steps are moved to its front.
"""

import functools
import importlib
from typing import Any

import jax
import jax.custom_batching
import jax.extend.backend
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._factory import call_of, named
from jaxseq._meshes import on_meshes, vary_alike
from jaxseq.cells import LstmCarry, LstmParams, lstm
from jaxseq.cells._activation import SIGMOIDS
from jaxseq.kernels._bytes import kernel_bytes, sizes_are_known
from jaxseq.kernels._plan import Plan, register
from jaxseq.kernels._rows import rows_are_batch
from jaxseq.typing import Carry, Cell, Inputs, Params

_PLAIN = {"peephole": (None,), "candidate": (jnp.tanh, jax.lax.tanh), "gate": SIGMOIDS}
_PLAIN |= {"projection": (None,), "coupled": (False,), "clip": (None,)}


@named
@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def cudnn(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs a plain float32 LSTM by cuDNN on an NVIDIA GPU. It supports masks of any pattern, but no resets.

    Its products may round their factors to TensorFloat-32, as JAX's do on such GPUs. Under
    `jax.default_matmul_precision("highest")` they do not. Supports reverse mode, first order. `jax.vmap` over rows
    makes one larger batch; over params it makes one call for each. If the compiler splits rows over devices, it gathers
    them for the call. Under `jax.shard_map` each device makes its own call.

    Raises:
      ValueError: cuDNN cannot run the cell, or not on this machine. The message tells why.
    """
    reason = cudnn_reason(cell, params, xs)
    if reason is not None:
        raise ValueError(f"`kernels.cudnn` does not run {cell!r} here: {reason}")
    return _in_one_call(params, carry, xs, cell=cell, reverse=reverse)


def cudnn_reason(cell: Cell, params: Params, xs: Inputs) -> str | None:
    """Returns why cuDNN cannot run a cell on this machine, or None if it can. Shapes may replace arrays."""
    reason = _machine_reason()
    if reason is not None:
        return reason
    is_masked, inner = _unmasked(cell)
    factory, options = call_of(inner) or (None, {})
    if factory is not lstm:
        return "it is not an LSTM of `jaxseq.lstm` without wrappers other than a mask"
    for name, plain in _PLAIN.items():
        if options[name] not in plain:
            return f"cuDNN has no LSTM with `{name}` = {options[name]!r}"
    if is_masked and xs.extra[1] is not None:
        return "cuDNN has no resets"
    weights, xs = (params.value, xs.value) if is_masked else (params, xs)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((weights, xs))}
    if dtypes != {jnp.dtype(jnp.float32)}:
        return f"JAX calls cuDNN only in float32; got {', '.join(sorted(dtype.name for dtype in dtypes))}"
    return None if sizes_are_known((params, xs)) else "sizes are symbols"


def _machine_reason():
    """Returns why this machine has no cuDNN, or None if it has."""
    backend = jax.extend.backend.get_backend()
    if jax.default_backend() != "gpu" or "rocm" in backend.platform_version.lower():
        return f"cuDNN runs on NVIDIA GPUs, and JAX's default device is a {jax.devices()[0].device_kind}"
    if not hasattr(_rnn().gpu_rnn, "compute_rnn_workspace_reserve_space_sizes"):
        return "JAX's CUDA plugin is not installed, or has no cuDNN"
    return None


def _rnn() -> Any:
    """Returns JAX's module, imported on first use. `import jaxseq` does not need it."""
    return importlib.import_module("jax.experimental.rnn")


def _unmasked(cell):
    """Returns whether a mask wraps the cell, and the inner cell."""
    factory, options = call_of(cell) or (None, {})
    return (True, options["cell"]) if factory is masking.masked else (False, cell)


@rows_are_batch
def _in_one_call(params, carry, xs, *, cell, reverse):
    mask = None
    if _unmasked(cell)[0]:
        params, (xs, (mask, _)) = params.value, xs
    T, *batch, D = xs.shape
    H = carry.c.shape[-1]
    if 0 in (T, *batch):
        return carry, jnp.zeros((T, *batch, H), xs.dtype)
    xs = xs.reshape(T, -1, D)
    mask = None if mask is None else mask.reshape(xs.shape[:2])
    first = jax.tree.map(lambda leaf: leaf.reshape(-1, H), carry)
    if reverse:
        xs, mask = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), (xs, mask))
    run = _run if mask is None else functools.partial(_run_masked, mask)
    last, ys = run(params, first, xs)
    ys = jnp.flip(ys, 0) if reverse else ys
    return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), last, carry), ys.reshape(T, *batch, H)


def _run_masked(mask, params, carry, xs):
    """Runs each row's real steps first, in their order, and its padding last; moves the ys back to their places."""
    lengths = mask.sum(0, dtype=jnp.int32)
    place = jnp.where(mask, jnp.cumsum(mask, 0), lengths + jnp.cumsum(~mask, 0)) - 1
    at = place, jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    once: Any = {"unique_indices": True, "mode": "promise_in_bounds"}
    front = jnp.zeros_like(xs).at[at].set(masking.keep(mask, xs), **once)
    last, ys = _run(params, carry, front, jnp.maximum(lengths, 1))  # the result of a row without steps is not used
    return masking.choose(lengths > 0, last, carry), masking.keep(mask, ys.at[at].get(**once))


def _run(params, carry, xs, lengths=None):
    """Runs all steps of `xs [T, B, D]` by one call."""
    T, B, _ = xs.shape
    lengths = jnp.full(B, T, jnp.int32) if lengths is None else lengths
    h, c = (leaf[None] for leaf in carry)
    ys, h, c = _call(jnp.swapaxes(xs, 0, 1), h, c, packed(params), lengths)
    return LstmCarry(h[0], c[0]), jnp.swapaxes(ys, 0, 1)


@jax.custom_vjp
def _call(xs, h, c, weights, lengths):
    return _forward(xs, h, c, weights, lengths)[0]


@jax.custom_batching.sequential_vmap  # over params, which get one call each
def _forward(xs, h, c, weights, lengths):
    """Runs the forward half of JAX's `rnn.lstm`, whose types do not tell what varies over a mesh."""
    results, saved = _rnn().lstm_fwd(xs, h, c, weights, lengths, *_sizes(xs, h))
    *results, _ = vary_alike((*results, xs))
    return tuple(results), saved


@jax.custom_batching.sequential_vmap
def _backward(saved, cotangents):
    return (*_rnn().lstm_bwd(*_sizes(*saved[:2]), saved, cotangents)[:4], None)


def _sizes(xs, h):
    """Returns the sizes for cuDNN: D, H, one layer, no dropout, one direction, and the precision of JAX's products."""
    return xs.shape[-1], h.shape[-1], 1, 0.0, False, None


_call.defvjp(_forward, _backward)


def packed(params: LstmParams) -> jax.Array:
    """Returns the params of a plain LSTM as cuDNN's vector of weights, `[4H (D + H + 2)]`."""
    leaves = params.w_x.T, params.w_h.T, params.b, jnp.zeros_like(params.b)
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def _plan(cell, params, xs):
    reason = cudnn_reason(cell, params, xs)
    if reason is not None:
        raise ValueError(f"`kernels.cudnn` does not run {cell!r} here: {reason}")
    T = jax.tree.leaves(xs)[0].shape[0]
    held = lambda: kernel_bytes(cudnn, cell, params, xs)
    return Plan("kernels.cudnn", "cuDNN's own gradient", T, T, "one call runs all steps", held)


register(cudnn, _plan)
