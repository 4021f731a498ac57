"""The starts of sequences within the steps: how a reset acts on an algebra whose elements hold no state."""

from typing import Any, NamedTuple

import jax

from jaxseq import masking
from jaxseq.typing import Carry


class Start(NamedTuple):
    """`reset`, bool `[T, B]`: before these steps the carry becomes `initial`, `[B, ...]`, constant in time."""

    reset: jax.Array
    initial: Carry


def entered(start: Start | None, carry: Carry) -> Any:
    """Returns the carry that a step starts from."""
    return carry if start is None else masking.choose(start.reset, start.initial, carry)
