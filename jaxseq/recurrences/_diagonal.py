"""The diagonal algebra, real or complex: each number of the state decays by itself.

h' = a ⊙ h + b                               seen as h'
(a₂, b₂) after (a₁, b₁)  =  (a₂ ⊙ a₁, a₂ ⊙ b₁ + b₂)
hold      a = 1, b = 0
restart   a = 0, b = a ⊙ h₀ + b
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._promote import beside


class Diagonal(NamedTuple):
    """Steps h' = a ⊙ h + b, of a state of any axes.

    Attributes:
      a: `[T, B, *state]`, or `[*state]` where it is the same at every step.
      b: `[T, B, *state]`.
    """

    a: jax.Array
    b: jax.Array

    def step(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the state after one step from `carry [B, *state]`, twice: it is what is observed."""
        h = beside(self.a, self.b) * carry + self.b
        return h, h

    def hold(self, mask: jax.Array) -> "Diagonal":
        """Returns the steps; where `mask`, bool `[T, B]`, is False, they keep the state."""
        a = self.whole()
        return Diagonal(masking.choose(mask, a, jnp.ones_like(a)), masking.keep(mask, self.b))

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Diagonal":
        """Returns the steps; where `reset`, bool `[T, B]`, is True, they start from `initial [B, *state]`."""
        a = self.whole()
        started = a * beside(initial, a) + self.b
        return Diagonal(masking.keep(~reset, a), masking.choose(reset, started, self.b))

    def whole(self) -> jax.Array:
        """Returns `a` of every step, `[T, B, *state]`."""
        return jnp.broadcast_to(beside(self.a, self.b), self.b.shape)
