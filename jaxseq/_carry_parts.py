"""Named parts of a carry: NamedTuple fields or dict keys. A carry that is one array has the single part `h`."""

import jax

from jaxseq.typing import Carry


def parts_of(wrapper: str, carry: Carry) -> dict[str, jax.Array]:
    """Returns the parts of a carry by name. Errors name `wrapper`.

    Raises:
      ValueError: the carry has no named parts.
    """
    if isinstance(carry, dict):
        return carry
    if hasattr(carry, "_asdict"):
        return carry._asdict()
    if hasattr(carry, "shape"):
        return {"h": carry}
    raise ValueError(
        f"`{wrapper}` acts on parts of the carry by name, so the carry must be an array (`h`), a NamedTuple or a "
        f"dict; got a {type(carry).__name__}"
    )


def replace_parts(carry: Carry, parts: dict[str, jax.Array]) -> Carry:
    """Returns the carry with the given parts replaced."""
    if isinstance(carry, dict):
        return {**carry, **parts}
    return carry._replace(**parts) if hasattr(carry, "_replace") else parts.get("h", carry)
