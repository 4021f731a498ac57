"""The vanilla recurrent cell (Elman 1990, who used f = σ).

    a_t = x_t W_x + b + h_{t-1} W_h
    h_t = f(a_t)                        y_t = h_t

Backward, with δh the cotangent of h_t from the output and from step t+1:

    δa_t     = δh ⊙ f'(a_t)
    δh_{t-1} = δa_t W_hᵀ
    δW_h     = Σ_t h_{t-1}ᵀ δa_t
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq.cells._activation import Activation, activation_back, remember
from jaxseq.cells._dense import affine_back, dense, dense_back, dense_weight, wide
from jaxseq.typing import AnyArray, Backward, Cell, Initializer


class RnnParams(NamedTuple):
    """`w_x [D, H]`, `w_h [H, H]`, `b [H]`."""

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    y: jax.Array
    a: jax.Array | None


def rnn(
    size: int,
    *,
    activation: Activation = jnp.tanh,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the vanilla recurrent cell h_t = f(x_t W_x + b + h_{t-1} W_h). Its carry is h `[B, H]`.

    Args:
      size: H.
      activation: f, any elementwise function.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`. Defaults: Glorot-uniform,
        orthogonal, zeros.

    Raises:
      TypeError, ValueError: `size` is not a positive int, or `activation` or an initialiser is not a function.

    >>> cell = rnn(3, activation=jax.nn.relu)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> [leaf.shape for leaf in params]
    [(2, 3), (3, 3), (3,)]
    """
    check.function("activation", activation)
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    return _rnn(check.positive_int("size", size), activation, *inits)


@factory
def _rnn(size, activation, input_init, recurrent_init, bias_init):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h = jax.random.split(key)
        return RnnParams(
            w_x=input_init(key_x, (in_size, size), dtype),
            w_h=recurrent_init(key_h, (size, size), dtype),
            b=bias_init(jax.random.fold_in(key, 2), (size,), dtype),
        )

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.w_h.dtype)

    def project(params, xs):
        return dense(xs, params.w_x, params.b).astype(xs.dtype)

    def fwd(params, h, u):
        a = wide(u) + dense(h, params.w_h)
        y = activation(a).astype(h.dtype)
        return y, y, _Saved(h, y, remember(activation, a))

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        _, y, a = saved
        d_a = activation_back(activation, d_carry + d_y, y, a).astype(y.dtype)
        return dense_back(d_a, params.w_h).astype(y.dtype), d_a

    def collect(params, saved, d_us):
        return RnnParams(jnp.zeros_like(params.w_x), dense_weight(saved.h, d_us), jnp.zeros_like(params.b))

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect, affine_back), hears=False)
