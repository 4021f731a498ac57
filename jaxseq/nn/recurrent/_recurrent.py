"""The recurrent layer for Flax NNX: any jaxseq cell or net with its params, batch-major."""

import jax
from flax import nnx

from jaxseq import check
from jaxseq._cast import cast
from jaxseq._unroll import step
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given
from jaxseq.nn.recurrent import _batch_major
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel, Params, Shape


class Recurrent(Module):
    """A cell or a net of cells as a Flax NNX module, from `xs [B, T, D]` to `ys [B, T, H]`.

    There may be any number of batch axes, and T may be 0. Noise (dropout, zoneout) is drawn if and only if a key is
    given; `train()` and `eval()` change nothing.

    Args:
      cell: a Cell or a Composite.
      in_features: D, the features of the inputs.
      kernel: the kernel that runs the cell over time, see `jaxseq.kernels`. None: the default of `jaxseq.unroll`.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Attributes:
      params: what `cell.init` returns, with the same structure, and an `nnx.Param` for each leaf: `layer.params.w_x`.
      cell, in_features, kernel, dtype: as given; static.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> layer = nn.Recurrent(jaxseq.lstm(4), 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 5, 3])).shape, layer.params.w_x.shape
    ((2, 5, 4), (3, 16))
    """

    def __init__(
        self,
        cell: Cell | Composite,
        in_features: int,
        *,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check.net(cell)
        check.signatures(cell)
        check.kernel(kernel)
        self.dtype, param_dtype, rngs = given(dtype, param_dtype, rngs)
        self.cell = cell
        self.in_features = check.positive_int("in_features", in_features)
        self.kernel = kernel
        params = cell.init(rngs.params(), self.in_features, param_dtype)
        self.params = nnx.data(jax.tree.map(nnx.Param, params))

    def __call__(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`; arguments as for `unroll`."""
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def unroll(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry and the outputs of all steps, `[B, T, H]`.

        Args:
          xs: `[B, T, D]`, cast to `dtype`; if that is None, `xs` must have the dtype of the params.
          carry: the initial carry. None: that of `initial_carry`.
          mask: bool `[B, T]`, True where a step is real, in any pattern. On padding the carry is held and the output
            zero.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a random key for cells and nets that draw noise. None: no noise.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        params = self._arrays()
        xs = self._checked("xs", "B, T, D", xs, params)
        return _batch_major.unroll(self.cell, params, xs, carry, mask=mask, reset=reset, kernel=self.kernel, key=key)

    def step(self, carry: Carry | None, x: AnyArray, *, reset: AnyArray | None = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry and the output `[B, H]` of one step, equal to that of `unroll` without noise.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: `[B, D]`.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit, or the net is not causal.
        """
        params = self._arrays()
        return step(self.cell, params, carry, self._checked("x", "B, D", x, params), reset=reset)

    @property
    def size(self) -> int:
        """H, the features of the outputs."""
        return self.cell.size

    @property
    def causal(self) -> bool:
        """Whether outputs do not depend on later steps, so that the layer has a `step`."""
        return self.cell.step is not None

    def initial_carry(self, batch_shape: Shape = ()) -> Carry:
        """Returns the initial carry."""
        return self.cell.carry(self._arrays(), check.shape("batch_shape", batch_shape))

    def _checked(self, name, axes, xs, params):
        xs = floats(name, axes, xs, params, self.dtype)
        check.features(name, xs, self.in_features)
        return xs

    def _arrays(self) -> Params:
        """Returns the params in the dtype of the computation."""
        is_one = lambda leaf: isinstance(leaf, nnx.Variable)
        return cast(jax.tree.map(lambda param: param[...], self.params, is_leaf=is_one), self.dtype)
