"""The parts of a carry by name: the fields of a NamedTuple, the keys of a dict; a carry that is one array is `h`."""

import jax

from jaxseq.typing import Carry


def parts_of(wrapper: str, carry: Carry) -> dict[str, jax.Array]:
    """Returns the parts of a carry by name, for `wrapper`, which the error names.

    Raises:
      ValueError: the carry has no names.
    """
    if isinstance(carry, dict):
        return carry
    if hasattr(carry, "_asdict"):
        return carry._asdict()
    if hasattr(carry, "shape"):
        return {"h": carry}
    raise ValueError(
        f"`{wrapper}` acts on parts of the carry by name: it must be an array, which is `h`, a NamedTuple or a dict; "
        f"got a {type(carry).__name__}"
    )


def replace_parts(carry: Carry, parts: dict[str, jax.Array]) -> Carry:
    """Returns the carry with some of its parts replaced."""
    if isinstance(carry, dict):
        return {**carry, **parts}
    return carry._replace(**parts) if hasattr(carry, "_replace") else parts.get("h", carry)
