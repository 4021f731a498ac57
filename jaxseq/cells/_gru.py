"""Gated recurrent unit (Cho et al. 2014), in all conventions.

    u_t = x_t W_x + b                             gates in the order  r z n
    r_t = σ(u_r + h_{t-1} W_r)                    the reset gate; σ is the sigmoid, or the given gate
    z_t = σ(u_z + h_{t-1} W_z)                    the update gate
    n_t = candidate(u_n + r_t ⊙ (h_{t-1} W_n + b_hn))     reset_after=True   (cuDNN, PyTorch)
    n_t = candidate(u_n + (r_t ⊙ h_{t-1}) W_n)            reset_after=False  (Cho)
    h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}                 update_writes=False: z keeps
    h_t = (1 - z_t) ⊙ h_{t-1} + z_t ⊙ n_t                 update_writes=True:  z writes
    y_t = h_t                                     W_h = [W_r W_z W_n]

Recurrent dropout drops the h_{t-1} that is multiplied by a weight, but not the h_{t-1} in the last line.

Backward, with δh the cotangent of h_t from the output and from step t+1, k = z where z keeps and 1 - z where it writes:

    δn   = δh ⊙ (1 - k)           δa_n = δn ⊙ candidate'(a_n)
    δk   = δh ⊙ (h_{t-1} - n)     δa_z = ±δk ⊙ σ'(a_z)
    reset after:   δm = δa_n ⊙ r,       δr = δa_n ⊙ (h_{t-1} W_n + b_hn),  δh_{t-1} = δh ⊙ k + [δa_r δa_z δm] W_hᵀ
    reset before:  δq = δa_n W_nᵀ,      δr = δq ⊙ h_{t-1},    δh_{t-1} = δh ⊙ k + δq ⊙ r + [δa_r δa_z] [W_r W_z]ᵀ
    δa_r = δr ⊙ σ'(a_r)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._activation import Activation, activation_back, gated, remember
from jaxseq.cells._dense import affine_back, dense, dense_back, dense_weight, total, wide
from jaxseq.typing import AnyArray, Backward, Cell, Heard, Initializer


class GruParams(NamedTuple):
    """`w_x [D, 3H]`, `w_h [H, 3H]`, `b [3H]`, gates r z n; `b_hn [H]`, or None without `reset_after`."""

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray
    b_hn: AnyArray | None = None


class _Projected(NamedTuple):
    """The inputs of a step, `[..., H]` each. They are separate because XLA:CPU does not vectorise nested slices."""

    r: jax.Array
    z: jax.Array
    n: jax.Array


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    heard: jax.Array | None  # the h that the gates saw in its place
    r: jax.Array
    z: jax.Array
    n: jax.Array
    m: jax.Array | None  # h_{t-1} W_n + b_hn, if the reset comes after it
    a_n: jax.Array | None
    a_r: jax.Array | None
    a_z: jax.Array | None


def gru(
    size: int,
    *,
    reset_after: bool = True,
    update_writes: bool = False,
    candidate: Activation = jnp.tanh,
    gate: Activation = jax.nn.sigmoid,
    forget_bias: float | Initializer | None = None,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the GRU cell. Its carry is h `[B, H]`.

    Args:
      size: H.
      reset_after: True: the reset gate acts on h W_n + b_hn (cuDNN, PyTorch, Keras). False: it acts on h (Cho 2014).
      update_writes: False: h' = (1 - z) n + z h (PyTorch). True: h' = (1 - z) h + z n.
      candidate: the activation of the candidate n, any elementwise function.
      gate: the activation of the gates r z, any elementwise function. For old Keras models see `jaxseq.lstm`.
      forget_bias: the value that `init` writes into the update gate's part of `b`, negated with `update_writes`. A
        larger value means longer memory. A number or an initialiser, such as `initializers.chrono(T)`. None keeps the
        value of `bias_init`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, of `w_h`, and of `b` and `b_hn`, drawn
        separately for each gate. Defaults: Glorot-uniform, orthogonal, zeros.

    Raises:
      TypeError, ValueError: `size` is not a positive int, `candidate`, `gate` or an initialiser is not a function, or
        a flag is not a bool.

    >>> cell = gru(3, reset_after=False)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> params.w_h.shape, params.b_hn is None
    ((3, 9), True)
    """
    check.one_of("reset_after", reset_after, (True, False))
    check.one_of("update_writes", update_writes, (True, False))
    check.function("candidate", candidate)
    check.function("gate", gate)
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    forget_bias = check.bias("forget_bias", forget_bias)
    size, flags = check.positive_int("size", size), (bool(reset_after), bool(update_writes))
    return _gru(size, *flags, candidate, gate, forget_bias, *inits)


@factory
def _gru(size, reset_after, update_writes, candidate, gate, forget_bias, input_init, recurrent_init, bias_init):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h = jax.random.split(key)
        key_b, key_hn, key_z = jax.random.split(jax.random.fold_in(key, 2), 3)
        b = initializers.per_gate(bias_init, 3)(key_b, (3 * size,), dtype)
        if forget_bias is not None:
            keep = initializers.bias(forget_bias, key_z, (size,), dtype)
            b = b.at[size : 2 * size].set(-keep if update_writes else keep)
        return GruParams(
            w_x=initializers.per_gate(input_init, 3)(key_x, (in_size, 3 * size), dtype),
            w_h=initializers.per_gate(recurrent_init, 3)(key_h, (size, 3 * size), dtype),
            b=b,
            b_hn=bias_init(key_hn, (size,), dtype) if reset_after else None,
        )

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.w_h.dtype)

    def project(params, xs):
        return _Projected(*jnp.split(dense(xs, params.w_x, params.b).astype(xs.dtype), 3, axis=-1))

    def project_back(params, xs, d_us):
        return affine_back(params, xs, jnp.concatenate(d_us, axis=-1))

    def fwd(params, carry, u):
        h, heard = carry if isinstance(carry, Heard) else (carry, None)
        seen = h if heard is None else heard
        u, before = wide((u, h))
        if reset_after:
            a_r, a_z, a_n = jnp.split(dense(seen, params.w_h), 3, axis=-1)
            a_r, a_z = u.r + a_r, u.z + a_z
            r, z = gated(gate, a_r), gated(gate, a_z)
            m = a_n + expand_rank(wide(params.b_hn), a_n)
            a_n = u.n + r * m
        else:
            w_rz, w_n = jnp.split(params.w_h, [2 * size], axis=-1)
            a_r, a_z = jnp.split(dense(seen, w_rz), 2, axis=-1)
            a_r, a_z = u.r + a_r, u.z + a_z
            r, z = gated(gate, a_r), gated(gate, a_z)
            m = None
            a_n = u.n + dense((r * wide(seen)).astype(h.dtype), w_n)
        n = candidate(a_n)
        h_new = (1 - z) * before + z * n if update_writes else (1 - z) * n + z * before
        h_new = h_new.astype(h.dtype)
        saved = _Saved(h, heard, r, z, n, m, remember(candidate, a_n), remember(gate, a_r), remember(gate, a_z))
        return h_new, h_new, jax.tree.map(lambda x: x.astype(h.dtype), saved)

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, heard, r, z, n, m, a_n, a_r, a_z = saved
        seen = h if heard is None else heard
        d_h = d_carry + d_y
        keep, write = (1 - z, z) if update_writes else (z, 1 - z)
        d_z = activation_back(gate, d_h * ((n - h) if update_writes else (h - n)), z, a_z)
        d_n = activation_back(candidate, d_h * write, n, a_n)
        if reset_after:
            d_r = activation_back(gate, d_n * m, r, a_r)
            d_seen = dense_back(jnp.concatenate([d_r, d_z, d_n * r], axis=-1), params.w_h)
        else:
            w_rz, w_n = jnp.split(params.w_h, [2 * size], axis=-1)
            d_reset = dense_back(d_n, w_n).astype(h.dtype)
            d_r = activation_back(gate, d_reset * seen, r, a_r)
            d_seen = wide(d_reset * r) + dense_back(jnp.concatenate([d_r, d_z], axis=-1), w_rz)
        d_u = _Projected(*(d.astype(h.dtype) for d in (d_r, d_z, d_n)))
        if heard is not None:
            return Heard((d_h * keep).astype(h.dtype), d_seen.astype(h.dtype)), d_u
        return (wide(d_h * keep) + d_seen).astype(h.dtype), d_u

    def collect(params, saved, d_us):
        seen = saved.h if saved.heard is None else saved.heard
        if reset_after:
            d_m = d_us.n * saved.r
            w_h = dense_weight(seen, jnp.concatenate([d_us.r, d_us.z, d_m], axis=-1))
            b_hn = total(d_m, params.b_hn.dtype)
        else:
            w_rz = dense_weight(seen, jnp.concatenate([d_us.r, d_us.z], axis=-1))
            w_h = jnp.concatenate([w_rz, dense_weight(saved.r * seen, d_us.n)], axis=-1)
            b_hn = None
        return GruParams(jnp.zeros_like(params.w_x), w_h, jnp.zeros_like(params.b), b_hn)

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect, project_back), hears=True)
