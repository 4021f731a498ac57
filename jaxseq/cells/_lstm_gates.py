"""The gates of the LSTM family, forward and backward: from pre-activations and memory to the new memory, elementwise.

    a = [a_i a_f a_g a_o] along the last axis, or [a_f a_g a_o] with coupled gates, plus what the peepholes see
    i = σ(a_i), coupled: 1 - f      f = σ(a_f)      g = candidate(a_g)              σ: the gate activation
    c' = f ⊙ c + i ⊙ g, clipped     o = σ(a_o + [w_o ⊙ c'])

The peepholes w_c [K, H] have rows i f o, or f o with coupled gates. They see c, except that w_o sees c' with "new".

Backward, with δo the cotangent of o and δc that of c':

    δa_o = δo ⊙ σ'(a_o)        δc += [δa_o ⊙ w_o]      δc = 0 where c' is clipped
    δi = δc ⊙ g                δf = δc ⊙ c  [- δi where coupled]      δg = δc ⊙ i
    δa = (δi, δf, δo) ⊙ σ' and δg ⊙ candidate'
    δc_before = δc ⊙ f  [+ Σ δa ⊙ w  over the peepholes that see c]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank
from jaxseq.cells._activation import SIGMOIDS, Activation, activation_back, gated, remember, sigmoid
from jaxseq.cells._dense import total


class GateForm(NamedTuple):
    """The member of the LSTM family. See `jaxseq.lstm`."""

    peephole: str | None
    candidate: Activation
    coupled: bool
    clip: float | None
    gate: Activation = jax.nn.sigmoid

    @property
    def gates(self) -> int:
        """The number of gates in the pre-activations: 4, or 3 with coupled gates."""
        return 3 if self.coupled else 4


class GatesSaved(NamedTuple):
    """The values that the backward needs, `[..., H]` each."""

    c: jax.Array  # the memory before the step
    i: jax.Array | None  # None with coupled gates
    f: jax.Array
    g: jax.Array
    o: jax.Array
    a_g: jax.Array | None
    a_gates: jax.Array | None = None  # [..., 3H] of i f o, or [..., 2H] of f o with coupled gates


def forward(form: GateForm, w_c: jax.Array | None, a: jax.Array, c: jax.Array) -> tuple[jax.Array, GatesSaved]:
    """Returns the new memory, and the saved values, which include the output gate."""
    if w_c is not None:
        a = a + jnp.concatenate(_seen(form, [expand_rank(row, c) * c for row in w_c], jnp.zeros_like(c)), axis=-1)
    *a_if, a_g, a_o = jnp.split(a, form.gates, axis=-1)
    *rest, f, g, o = _activate(form, a)
    g = g if form.candidate is jnp.tanh else form.candidate(a_g)
    saved = GatesSaved(c, None if form.coupled else rest[0], f, g, o, remember(form.candidate, a_g))
    c_new = clipped(form, saved)
    if w_c is not None and form.peephole == "new":
        a_o = a_o + expand_rank(w_c[-1], c_new) * c_new
        saved = saved._replace(o=gated(form.gate, a_o))
    if form.gate not in SIGMOIDS:
        saved = saved._replace(a_gates=remember(form.gate, jnp.concatenate([*a_if, a_o], axis=-1)))
    return c_new, saved


def backward(
    form: GateForm, w_c: jax.Array | None, saved: GatesSaved, d_o: jax.Array, d_c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the cotangents of the pre-activations and of the memory before the step."""
    c, i, f, g, o, a_g, a_gates = saved
    *a_i, a_f, a_o = [None] * (form.gates - 1) if a_gates is None else jnp.split(a_gates, form.gates - 1, axis=-1)
    d_a_o = activation_back(form.gate, d_o, o, a_o)
    if w_c is not None and form.peephole == "new":
        d_c = d_c + d_a_o * expand_rank(w_c[-1], d_a_o)
    if form.clip is not None:
        size = jnp.abs(unclipped(saved))  # exactly at the bound, JAX's clip passes half of the cotangent
        d_c = d_c * jnp.where(size < form.clip, 1, jnp.where(size == form.clip, 0.5, 0)).astype(d_c.dtype)
    if i is None:
        d_i, i = None, 1 - f
        d_f = d_c * (c - g)
    else:
        d_i, d_f = activation_back(form.gate, d_c * g, i, a_i[0]), d_c * c
    d_f = activation_back(form.gate, d_f, f, a_f)
    d_c_before = d_c * f
    d_g = activation_back(form.candidate, d_c * i, g, a_g)
    d_gates = [d_f, d_g, d_a_o] if d_i is None else [d_i, d_f, d_g, d_a_o]
    if w_c is not None:
        peeping = [*d_gates[:-2], *([d_a_o] if form.peephole == "old" else [])]
        d_c_before = d_c_before + sum(d * expand_rank(row, d) for d, row in zip(peeping, w_c, strict=False))
    return jnp.concatenate(d_gates, axis=-1), d_c_before


def peephole_gradient(form: GateForm, saved: GatesSaved, d_a: jax.Array, features: int = 1) -> jax.Array:
    """Returns the gradient of `w_c` from the δa of all steps. The last `features` axes are those of a row of `w_c`."""
    *d_gates, _, d_o = jnp.split(d_a, form.gates, axis=-1)
    seen_by_o = clipped(form, saved) if form.peephole == "new" else saved.c
    rows = [*(d * saved.c for d in d_gates), d_o * seen_by_o]
    return jnp.stack([total(row, row.dtype, features) for row in rows])


def unclipped(saved: GatesSaved) -> jax.Array:
    """Returns f ⊙ c + i ⊙ g."""
    return saved.f * saved.c + (1 - saved.f if saved.i is None else saved.i) * saved.g


def clipped(form: GateForm, saved: GatesSaved) -> jax.Array:
    """Returns c', the new memory."""
    c_new = unclipped(saved)
    return c_new if form.clip is None else jnp.clip(c_new, -form.clip, form.clip)


def _activate(form, a):
    """Returns the gates, and g if it is a tanh. One pass over the whole block is faster than one pass per gate.

    s tanh(s a) + 1 - s is σ(a) for s = ½ and tanh(a) for s = 1.
    """
    if form.gate not in SIGMOIDS:
        *rest, a_g, a_o = jnp.split(a, form.gates, axis=-1)
        return [*(form.gate(part) for part in rest), jnp.tanh(a_g), form.gate(a_o)]
    if form.candidate is jnp.tanh:
        size = a.shape[-1] // form.gates
        scale = expand_rank(jnp.full(a.shape[-1:], 0.5, a.dtype).at[-2 * size : -size].set(1), a)
        whole = scale * jnp.tanh(scale * a) + (1 - scale)
    else:
        whole = sigmoid(a)
    return jnp.split(whole, form.gates, axis=-1)


def _seen(form, peeped, none):
    """Returns what the gates see of the memory before the step, in the order of the gates."""
    *gates, o = peeped
    return [*gates, none, o if form.peephole == "old" else none]
