"""memax (Morad et al. 2025): its LRU of Equinox by an associative scan, with a skip of a weight a feature.

It has no masks and no batch: rows are mapped over by `jax.vmap`. Its matrix cells are other equations than ours.
"""

from collections.abc import Callable
from typing import Any

import equinox  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from memax.equinox.semigroups.lru import LRU  # pyright: ignore[reportMissingImports]

import jaxseq


def shared_params(params: jaxseq.LruParams) -> jaxseq.LruParams:
    """Returns the params with a diagonal `w_d`, which is all that memax has; D = H."""
    return params._replace(w_d=jnp.diag(jnp.diagonal(params.w_d)))


def lru(params: jaxseq.LruParams) -> tuple[Any, Callable[[Any, jax.Array], jax.Array]]:
    """Returns the arrays of an LRU with these params, and `(arrays, xs [T, B, D]) -> ys [T, B, H]`."""
    made = LRU(params.nu.size, params.w_d.shape[1], jax.random.key(0))
    parts = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im", "D")
    p = params
    values = p.nu, p.theta, p.gamma, p.b_re.T, p.b_im.T, p.c_re.T, p.c_im.T, jnp.diagonal(p.w_d)
    made = equinox.tree_at(lambda model: [getattr(model, part) for part in parts], made, list(values))
    arrays, static = equinox.partition(made, equinox.is_array)

    def run(arrays, xs):
        model = equinox.combine(arrays, static)
        starts = jnp.zeros(xs.shape[0], bool)

        def of_row(xs):
            return model(model.initialize_carry(), (xs, starts))[1]

        return jax.vmap(of_row, 1, 1)(xs)

    return arrays, run
