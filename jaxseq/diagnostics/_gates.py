"""Gate traces: the values that each step saves for its hand-written backward, or the element of a linear cell.

    carry_t, y_t, saved_t = fwd(carry_{t-1}, u_t)              element_1 … element_T = element(u_1 … u_T)

The values are therefore exactly those that the gradient is computed from, and no equation is written twice.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq._unroll import unroll
from jaxseq.diagnostics._axes import mapping, real
from jaxseq.kernels import scan
from jaxseq.kernels._saved import run_and_save
from jaxseq.masking import keep
from jaxseq.recurrences import Diagonal
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params, Saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gate_traces(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Any:
    """Returns the gates of a cell at every step, and all else that its steps save for the backward, by name.

    The stock cells name their gates as their equations do: i f g o, and r z n. Each is `[T, B, H]`, zero on padding.
    What else a cell saves, such as the carry before the step, is named in its file and is `[T, B, features]`. A linear
    cell gives the parts of its element under the names of `jaxseq.recurrences`: a and b, or log_decay, k, v, q. Where a
    reset acts, a is 0.

    Args:
      cell: a Cell with a `backward` that saves a NamedTuple or a dict, a linear Cell, or a Composite of such cells.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.

    Returns:
      A dict of arrays. For a Composite, a pytree with such a dict in place of each cell's carry.

    Raises:
      TypeError, ValueError: an argument does not fit; a cell has no `backward`, or its `backward` saves no names.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> traces = diagnostics.gate_traces(cell, params, jnp.ones([5, 2, 3]))
    >>> traces["z"].shape
    (5, 2, 4)
    """
    flags = {"mask": mask, "reset": reset, "reverse": reverse}
    traces, _ = unroll(cell, params, xs, carry, kernel=_saved_as_carry, key=key, **flags)
    steps = jnp.shape(xs)[:-1]
    traces = jax.tree.map(lambda leaf: leaf.reshape(*steps, -1), traces)  # a ConvLSTM's traces are images
    return keep(None if mask is None else jnp.asarray(mask), traces)


def plot_gates(gates: Mapping[str, AnyArray], *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Plots each gate of one sequence as a heat map of units over steps, one panel per gate.

    Args:
      gates: arrays `[T, H]` by name. `{name: traces[name][:, 0] for name in "ifo"}` takes the first row of a batch.
        NaN is drawn grey: `jnp.where(mask[:, :1], gate, jnp.nan)` marks padding, where traces are zero.
      axes: one axes for each gate. None: the axes of a new figure.

    Returns:
      The axes, one for each gate.

    Raises:
      ValueError: a gate is not `[T, H]`, or there are not as many axes as gates.
    """
    import matplotlib.pyplot as plt

    axes_of_one = "[T, H], one row of the batch"
    shown = {name: real(f"gates['{name}']", axes_of_one, gate, (2,)) for name, gate in mapping("gates", gates)}
    if axes is None:
        size = (7, 0.6 + 1.4 * len(gates))
        panels = plt.subplots(len(gates), sharex=True, squeeze=False, figsize=size, layout="constrained")[1]
        axes = list(panels[:, 0])
    if len(axes) != len(gates):
        raise ValueError(f"`axes` must hold one axes for each of the {len(gates)} gates; got {len(axes)}")
    for ax, (name, gate) in zip(axes, shown.items(), strict=True):
        values = gate.T
        finite = values[np.isfinite(values)]
        if np.all((finite >= 0) & (finite <= 1)):
            colors = {"cmap": "viridis", "vmin": 0, "vmax": 1}
        else:
            largest = np.max(np.abs(finite))
            colors = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
        ax.set_facecolor("0.85")  # the colour of NaN
        image = ax.imshow(values, aspect="auto", interpolation="nearest", **colors)
        ax.figure.colorbar(image, ax=ax, pad=0.01)
        ax.set(ylabel="unit")
        ax.set_title(name, loc="left")
    axes[-1].set(xlabel="step")
    return list(axes)


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def _saved_as_carry(cell, params, carry, xs, *, reverse=False):
    """A kernel that returns the saved values as its last carry, so that a net puts them in the carry's place."""
    if cell.linear is not None:
        steps = cell.linear.element(params, cell.project(params, xs))
        steps = steps.whole() if isinstance(steps, Diagonal) else steps._replace(start=None)
        return _by_name(steps), scan(cell, params, carry, xs, reverse=reverse)[1]
    if cell.backward is None:
        raise ValueError(
            "`cell` has no hand-written `backward`, and gate_traces returns what a `backward` saves; "
            "gradient_norms and jacobians work without one"
        )

    (_, ys), saved = run_and_save(cell.backward.fwd, params, carry, cell.project(params, xs), reverse)
    return _by_name(saved.whole()), ys


def _by_name(saved: Saved) -> dict[str, Any]:
    """Returns what a cell saves by name; masks and wrappers save a tuple of which it is the first entry."""
    while isinstance(saved, tuple) and saved and not hasattr(saved, "_asdict"):
        saved = saved[0]
    named = saved if isinstance(saved, dict) else getattr(saved, "_asdict", dict)()
    if not named:
        raise ValueError(
            "`cell` must save values with names: let the `fwd` of its `backward` return a NamedTuple or a dict"
        )
    return {name: value for name, value in named.items() if value is not None}
