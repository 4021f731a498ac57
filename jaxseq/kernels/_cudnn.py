"""An LSTM by NVIDIA's cuDNN, which runs all steps in one call, and its gradient in another.

JAX has that call in `jax.experimental.rnn`: batch-major, in float32, with a length for each row. Its weights are one
vector, W_xᵀ, W_hᵀ and two biases, in the order of gates i f g o; the second bias is zero here.

A mask of any pattern is one of lengths: padding holds the carry, so the real steps of a row may be moved to its front.
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
    """Runs a plain LSTM of float32 by cuDNN, on an NVIDIA GPU; masks of any pattern, no resets.

    Its products may round their factors to TensorFloat-32, as JAX's do there; under
    `jax.default_matmul_precision("highest")` they do not. Reverse mode, first order. Rows of `jax.vmap` are one batch,
    and mapped params have a call each. Rows that the compiler splits over devices it gathers for the call; under
    `jax.shard_map` each device calls for its own.

    Raises:
      ValueError: cuDNN does not run the cell, or not on this machine; the message says why.
    """
    reason = cudnn_reason(cell, params, xs)
    if reason is not None:
        raise ValueError(f"`kernels.cudnn` does not run {cell!r} here: {reason}")
    return _in_one_call(params, carry, xs, cell=cell, reverse=reverse)


def cudnn_reason(cell: Cell, params: Params, xs: Inputs) -> str | None:
    """Says why cuDNN does not run a cell here, None where it does; arrays may be their shapes."""
    reason = _machine_reason()
    if reason is not None:
        return reason
    is_masked, inner = _unmasked(cell)
    factory, options = call_of(inner) or (None, {})
    if factory is not lstm:
        return "it is no LSTM of `jaxseq.lstm`, with nothing around it but a mask"
    for name, plain in _PLAIN.items():
        if options[name] not in plain:
            return f"cuDNN has no LSTM with `{name}` = {options[name]!r}"
    if is_masked and xs.extra[1] is not None:
        return "cuDNN has no resets"
    weights, xs = (params.value, xs.value) if is_masked else (params, xs)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((weights, xs))}
    if dtypes != {jnp.dtype(jnp.float32)}:
        return f"JAX calls cuDNN in float32 alone; got {', '.join(sorted(dtype.name for dtype in dtypes))}"
    return None if sizes_are_known((params, xs)) else "sizes are symbols"


def _machine_reason():
    """Why there is no cuDNN here."""
    backend = jax.extend.backend.get_backend()
    if jax.default_backend() != "gpu" or "rocm" in backend.platform_version.lower():
        return f"cuDNN runs on NVIDIA GPUs, and JAX's default device is a {jax.devices()[0].device_kind}"
    if not hasattr(_rnn().gpu_rnn, "compute_rnn_workspace_reserve_space_sizes"):
        return "JAX's CUDA plugin is not installed, or has no cuDNN"
    return None


def _rnn() -> Any:
    """JAX's module, when it is first used: `import jaxseq` does without."""
    return importlib.import_module("jax.experimental.rnn")


def _unmasked(cell):
    """Whether a cell stands under a mask, and the cell."""
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
    """Real steps are moved to the front of their rows, in their order, padding behind them, and ys back again."""
    lengths = mask.sum(0, dtype=jnp.int32)
    place = jnp.where(mask, jnp.cumsum(mask, 0), lengths + jnp.cumsum(~mask, 0)) - 1
    at = place, jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    once: Any = {"unique_indices": True, "mode": "promise_in_bounds"}
    front = jnp.zeros_like(xs).at[at].set(masking.keep(mask, xs), **once)
    last, ys = _run(params, carry, front, jnp.maximum(lengths, 1))  # of a row without steps nothing is taken
    return masking.choose(lengths > 0, last, carry), masking.keep(mask, ys.at[at].get(**once))


def _run(params, carry, xs, lengths=None):
    """All steps of `xs [T, B, D]` by one call."""
    T, B, _ = xs.shape
    lengths = jnp.full(B, T, jnp.int32) if lengths is None else lengths
    h, c = (leaf[None] for leaf in carry)
    ys, h, c = _call(jnp.swapaxes(xs, 0, 1), h, c, packed(params), lengths)
    return LstmCarry(h[0], c[0]), jnp.swapaxes(ys, 0, 1)


@jax.custom_vjp
def _call(xs, h, c, weights, lengths):
    return _forward(xs, h, c, weights, lengths)[0]


@jax.custom_batching.sequential_vmap  # of params, which each have a call of their own
def _forward(xs, h, c, weights, lengths):
    """JAX's `rnn.lstm` by its two halves, as its types do not say what varies over a mesh."""
    results, saved = _rnn().lstm_fwd(xs, h, c, weights, lengths, *_sizes(xs, h))
    *results, _ = vary_alike((*results, xs))
    return tuple(results), saved


@jax.custom_batching.sequential_vmap
def _backward(saved, cotangents):
    return (*_rnn().lstm_bwd(*_sizes(*saved[:2]), saved, cotangents)[:4], None)


def _sizes(xs, h):
    """D, H, one layer, no dropout, one direction, and the precision of JAX's products."""
    return xs.shape[-1], h.shape[-1], 1, 0.0, False, None


_call.defvjp(_forward, _backward)


def packed(params: LstmParams) -> jax.Array:
    """Returns params of a plain LSTM as cuDNN's vector of weights, `[4H (D + H + 2)]`."""
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
