"""GRU with layer normalisation (Ba, Kiros & Hinton 2016, supplement). N (see `_normalise.py`) is over r z, and over n.

    u_t = s_x ⊙ N(x_t W_x) + b                    gates in the order  r z n
    p_t = s_h ⊙ N(h_{t-1} W_h)
    r_t = σ(u_r + p_r)          z_t = σ(u_z + p_z)          σ: the sigmoid, or another gate
    n_t = tanh(u_n + r_t ⊙ (p_n + b_hn))
    h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}         y_t = h_t         (the paper's z is 1 - z here)

Backward, with δh the cotangent of h_t from the output and from step t+1:

    δa_n = δh ⊙ (1 - z) ⊙ (1 - n²)        δa_z = δh ⊙ (h_{t-1} - n) ⊙ σ'(a_z)
    δa_r = δa_n ⊙ (p_n + b_hn) ⊙ σ'(a_r)
    δp   = [δa_r δa_z δa_n ⊙ r]           δq = N' (s_h ⊙ δp)                δh_{t-1} = δh ⊙ z + δq W_hᵀ
    δW_h = Σ h_{t-1}ᵀ δq                  δs_h = Σ δp ⊙ N(h_{t-1} W_h)      δb_hn = Σ δa_n ⊙ r
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._activation import Activation, activation_back, gated, remember
from jaxseq.cells._dense import dense, dense_back, dense_weight, total, wide
from jaxseq.cells._normalise import normalise, normalise_back
from jaxseq.typing import AnyArray, Backward, Cell, Heard, Initializer


class LayerNormGruParams(NamedTuple):
    """`w_x [D, 3H]`, `w_h [H, 3H]`, `b [3H]`, `s_x [3H]`, `s_h [3H]`, gates r z n; `b_hn [H]`."""

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray
    b_hn: AnyArray
    s_x: AnyArray
    s_h: AnyArray


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    heard: jax.Array | None  # the h that the gates saw in its place
    r: jax.Array
    z: jax.Array
    n: jax.Array
    normal: jax.Array  # N(h_{t-1} W_h)
    scale_rz: jax.Array
    scale_n: jax.Array
    a_rz: jax.Array | None


def layer_norm_gru(
    size: int,
    *,
    gate: Activation = jax.nn.sigmoid,
    forget_bias: float | Initializer | None = None,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the layer-normalised GRU cell. Its carry is h `[B, H]`.

    Args:
      size: H.
      gate: the activation of the gates r z, any elementwise function.
      forget_bias: the value that `init` writes into the update gate's part of `b`, as for `jaxseq.gru`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, of `w_h`, and of `b` and `b_hn`, drawn
        separately for each gate. Defaults: Glorot-uniform, orthogonal, zeros.

    Raises:
      TypeError, ValueError: `size` is not a positive int, or `gate` or an initialiser is not a function.

    >>> cell = layer_norm_gru(3)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 2), jnp.ones([5, 4, 2]))
    >>> ys.shape
    (5, 4, 3)
    """
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    check.function("gate", gate)
    return _layer_norm_gru(check.positive_int("size", size), gate, check.bias("forget_bias", forget_bias), *inits)


@factory
def _layer_norm_gru(size, gate, forget_bias, input_init, recurrent_init, bias_init):
    inits = input_init, recurrent_init, bias_init
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 3) for initializer in inits)

    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h, key_b, key_hn, key_z = jax.random.split(key, 5)
        b = bias_init(key_b, (3 * size,), dtype)
        if forget_bias is not None:
            b = b.at[size : 2 * size].set(initializers.bias(forget_bias, key_z, (size,), dtype))
        return LayerNormGruParams(
            w_x=input_init(key_x, (in_size, 3 * size), dtype),
            w_h=recurrent_init(key_h, (size, 3 * size), dtype),
            b=b,
            b_hn=inits[2](key_hn, (size,), dtype),
            s_x=jnp.ones(3 * size, dtype),
            s_h=jnp.ones(3 * size, dtype),
        )

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.w_h.dtype)

    def normalise_blocks(a):
        """Returns N of the gates r z together and of the candidate's part, and the scales of both."""
        (rz, scale_rz), (n, scale_n) = map(normalise, jnp.split(a, [2 * size], axis=-1))
        return jnp.concatenate([rz, n], axis=-1), scale_rz, scale_n

    def normalise_blocks_back(d, saved):
        blocks = (jnp.split(array, [2 * size], axis=-1) for array in (d, saved.normal))
        (d_rz, d_n), (rz, n) = blocks
        back = normalise_back(d_rz, rz, saved.scale_rz), normalise_back(d_n, n, saved.scale_n)
        return jnp.concatenate(back, axis=-1)

    def project(params, xs):
        normal, _, _ = normalise_blocks(dense(xs, params.w_x))
        return (expand_rank(wide(params.s_x), xs) * normal + expand_rank(wide(params.b), xs)).astype(xs.dtype)

    def fwd(params, carry, u):
        h, heard = carry if isinstance(carry, Heard) else (carry, None)
        normal, scale_rz, scale_n = normalise_blocks(dense(h if heard is None else heard, params.w_h))
        u, before = wide((u, h))
        p = expand_rank(wide(params.s_h), normal) * normal
        a_rz = u[..., : 2 * size] + p[..., : 2 * size]
        r, z = jnp.split(gated(gate, a_rz), 2, axis=-1)
        n = jnp.tanh(u[..., 2 * size :] + r * (p[..., 2 * size :] + expand_rank(wide(params.b_hn), p)))
        h_new = ((1 - z) * n + z * before).astype(h.dtype)
        saved = _Saved(h, heard, r, z, n, normal, scale_rz, scale_n, remember(gate, a_rz))
        return h_new, h_new, jax.tree.map(lambda x: x.astype(h.dtype), saved)

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, heard, r, z, n, normal, _, _, a_rz = saved
        a_r, a_z = (None, None) if a_rz is None else jnp.split(a_rz, 2, axis=-1)
        d_h = d_carry + d_y
        d_n = d_h * (1 - z) * (1 - n * n)
        d_z = activation_back(gate, d_h * (h - n), z, a_z)
        s_h = expand_rank(params.s_h, normal)
        d_r = activation_back(gate, d_n * ((s_h * normal)[..., 2 * size :] + expand_rank(params.b_hn, normal)), r, a_r)
        d_a = jnp.concatenate([d_r, d_z, d_n], axis=-1)
        d_seen = dense_back(normalise_blocks_back(s_h * recurrent_part(d_a, r), saved), params.w_h)
        d_h = d_h * z
        if heard is not None:
            return Heard(d_h, d_seen.astype(h.dtype)), d_a
        return (wide(d_h) + d_seen).astype(h.dtype), d_a

    def recurrent_part(d_a, r):
        """Returns δp from δa. The reset gate multiplies the candidate's part."""
        return jnp.concatenate([d_a[..., : 2 * size], d_a[..., 2 * size :] * r], axis=-1)

    def collect(params, saved, d_us):
        d_p = recurrent_part(d_us, saved.r)
        zeros = jax.tree.map(jnp.zeros_like, params)
        seen = saved.h if saved.heard is None else saved.heard
        return zeros._replace(
            w_h=dense_weight(seen, normalise_blocks_back(expand_rank(params.s_h, d_p) * d_p, saved)),
            b_hn=total(d_p[..., 2 * size :], d_p.dtype),
            s_h=total(d_p * saved.normal, d_p.dtype),
        )

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect), hears=True)
