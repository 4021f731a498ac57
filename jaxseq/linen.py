"""A recurrent layer for Flax Linen: runs any jaxseq cell or net, batch-major."""

import jax
from flax import linen

from jaxseq import check
from jaxseq._cast import cast
from jaxseq._unroll import step
from jaxseq.nn.recurrent import _batch_major
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel


class Recurrent(linen.Module):
    """Wraps a cell or a net of cells as a Flax Linen module that maps `xs [B, T, D]` to `ys [B, T, H]`.

    Its variables are `{"params": {"weights": cell.init(...)}}`, in the cell's structure. There are zero or more
    batch axes; T may be 0. Noise (dropout, zoneout) is drawn only if a key is given.

    Attributes:
      cell: a Cell or a Composite.
      kernel: how to run over time; see `jaxseq.kernels`. None: the default of `jaxseq.unroll`.
      dtype: the dtype of the computation, to which params and inputs are cast. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.

    >>> from jaxseq.linen import Recurrent
    >>> layer = Recurrent(jaxseq.lstm(4))
    >>> variables = layer.init(jax.random.key(0), jnp.ones([2, 5, 3]))
    >>> layer.apply(variables, jnp.ones([2, 5, 3])).shape
    (2, 5, 4)
    >>> carry, ys = layer.apply(variables, jnp.ones([2, 5, 3]), method="unroll")
    """

    cell: Cell | Composite
    kernel: Kernel | None = None
    dtype: jax.typing.DTypeLike | None = None
    param_dtype: jax.typing.DTypeLike | None = None

    def __call__(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`. The arguments are those of `unroll`."""
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    @linen.compact
    def unroll(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry, and the outputs of all steps `[B, T, H]`.

        Args:
          xs: `[B, T, D]`, cast to `dtype`. If `dtype` is None, they must have the dtype of the params.
          carry: the carry to start from. None: the initial carry of the cell.
          mask: bool `[B, T]`, any pattern, True on real steps. On padded steps the carry is held and the output zero.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a key for cells and nets that draw noise. None: no noise.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        check.net(self.cell)
        check.kernel(self.kernel)
        xs = check.array("xs", "B, T, D", cast(xs, self.dtype))
        if xs.ndim < 2 or xs.shape[-1] == 0:
            raise ValueError(f"`xs` must be [B, T, D], of at least 2 axes and one feature; got {check.shaped(xs)}")
        if self.has_variable("params", "weights"):
            check.parameters(self.cell, self.get_variable("params", "weights"), xs.shape[-1])
        param_dtype = check.float_dtype("param_dtype", self.param_dtype)
        params = cast(self.param("weights", self.cell.init, xs.shape[-1], param_dtype), self.dtype)
        return _batch_major.unroll(self.cell, params, xs, carry, mask=mask, reset=reset, kernel=self.kernel, key=key)

    def step(self, carry: Carry | None, x: AnyArray, *, reset: AnyArray | None = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry, and the output `[B, H]` of one step. Equals one step of `unroll`, without noise.

        Args:
          carry: the carry so far. None starts a new sequence.
          x: `[B, D]`.
          reset: bool `[B]`, True where a new sequence starts at this step.

        Raises:
          TypeError, ValueError: an argument does not fit, the net is not causal, or there are no variables yet.
        """
        params = self.get_variable("params", "weights")
        if params is None:
            raise ValueError("`step` cannot make variables; init with a whole sequence: module.init(key, xs)")
        return step(self.cell, cast(params, self.dtype), carry, cast(x, self.dtype), reset=reset)
