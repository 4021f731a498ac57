"""How Newton's method gets on with a cell: what `kernels.newton` does, told (Lim et al. 2024; Gonzalez et al. 2025).

The largest Lyapunov exponent λ of the trajectory (`lyapunov_exponents`) foretells it. A difference between two carries
becomes e^{λ t} of itself after t steps, so what is wrong at a step matters to about 1 / |λ| steps after it where λ < 0,
and to ever more steps where λ > 0. In the first case a few rounds are enough, however long the sequence; in the other
one a round puts few more steps right, and the loop is taken.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax

from jaxseq._unroll import unroll
from jaxseq.kernels._newton import newton_options, newton_solution, refuse
from jaxseq.typing import Carry, Cell, Composite, Params


class NewtonReport(NamedTuple):
    """What the rounds of Newton's method came to.

    Attributes:
      rounds: int, how many were made, for all rows alike.
      residuals: `[rounds given]`, the largest |f_t(x_{t-1}) - x_t| of any number of a carry before each round; inf
        where none was made.
      fell_back: bool, whether they have not converged, so that the loop is run.
      settled: int `[B]`, how many steps of a row, in the order of processing, had converged before the first that had
        not: where the rounds converged, T.
    """

    rounds: jax.Array
    residuals: jax.Array
    fell_back: jax.Array
    settled: jax.Array


def newton_report(
    cell: Cell | Composite,
    params: Params,
    xs: jax.Array,
    carry: Carry | None = None,
    *,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
    jacobian: str = "full",
    tolerance: float | None = None,
    rounds: int = 32,
    damping: float = 0.0,
) -> Any:
    """Returns what the rounds of `kernels.newton` come to: how many, how fast, and whether the loop is run after all.

    It may be called under `jax.jit`.

    Args:
      cell: a Cell, or a Composite made of them.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.
      jacobian, tolerance, rounds, damping: as for `kernels.newton`.

    Returns:
      A `NewtonReport`; for a Composite a pytree of them, each in the place of its cell's carry.

    Raises:
      TypeError, ValueError: an argument does not fit, as for `jaxseq.unroll` and `kernels.newton`.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.lstm(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jax.random.normal(jax.random.key(1), (1000, 2, 3))
    >>> report = diagnostics.newton_report(cell, params, xs)
    >>> bool(report.fell_back), bool(report.rounds < 10), report.settled.tolist()
    (False, True, [1000, 1000])
    """
    kernel = _as_carry(*newton_options(jacobian, tolerance, rounds, damping))
    flags = {"mask": mask, "reset": reset, "reverse": reverse}
    return unroll(cell, params, xs, carry, kernel=kernel, key=key, **flags)[0]


@functools.cache
def _as_carry(*options):
    """A kernel which returns the report in place of the last carry, so that a net puts it in its place."""

    @functools.partial(jax.jit, static_argnames=("cell", "reverse"))
    def kernel(cell, params, carry, xs, *, reverse=False):
        refuse(cell, params, xs)
        _, ys, found = newton_solution(options, cell, params, carry, xs, reverse)
        return NewtonReport(found.rounds, found.residuals, ~found.converged, found.settled), ys

    return kernel
