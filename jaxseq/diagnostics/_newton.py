"""How fast `kernels.newton`, Newton's method over time, converges (Lim et al. 2024; Gonzalez et al. 2025).

The largest Lyapunov exponent λ of the trajectory (`lyapunov_exponents`) predicts it. A difference between two carries
grows by a factor e^{λ t} over t steps. If λ < 0, an error at one step affects only about the next 1 / |λ| steps, and a
few rounds are enough for any sequence length. If λ > 0, it affects ever more steps: each round settles few further
steps, and the kernel falls back to the loop.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax

from jaxseq._unroll import unroll
from jaxseq.kernels._newton import newton_options, newton_solution, refuse
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params


class NewtonReport(NamedTuple):
    """The outcome of the rounds of Newton's method.

    Attributes:
      rounds: int, the number of rounds; it is the same for all rows.
      residuals: `[rounds given]`, the largest |f_t(x_{t-1}) - x_t| over all numbers of all carries before each round;
        inf for rounds that were not needed.
      fell_back: bool, True if the rounds did not converge, so that the loop is run.
      settled: int `[B]`, how many leading steps of a row, in the order of processing, have converged: T if the rounds
        converged.
    """

    rounds: jax.Array
    residuals: jax.Array
    fell_back: jax.Array
    settled: jax.Array


def newton_report(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
    jacobian: str = "full",
    tolerance: float | None = None,
    rounds: int = 32,
    damping: float = 0.0,
) -> Any:
    """Returns a report on the rounds of `kernels.newton`: how many, how fast, and whether it falls back to the loop.

    It may be called under `jax.jit`.

    Args:
      cell: a Cell, or a Composite made of them.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.
      jacobian, tolerance, rounds, damping: as for `kernels.newton`.

    Returns:
      A `NewtonReport`. For a Composite, a pytree with such a report in place of each cell's carry.

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
    """A kernel that returns the report as its last carry, so that a net puts it in the carry's place."""

    @functools.partial(jax.jit, static_argnames=("cell", "reverse"))
    def kernel(cell, params, carry, xs, *, reverse=False):
        refuse(cell, params, xs)
        _, ys, found = newton_solution(options, cell, params, carry, xs, reverse)
        return NewtonReport(found.rounds, found.residuals, ~found.converged, found.settled), ys

    return kernel
