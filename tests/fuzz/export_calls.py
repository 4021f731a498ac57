"""A valid call of each function of `export`."""

import jax
import numpy as np

import jaxseq
from jaxseq import export

NET = jaxseq.gru(3)
MODEL = NET, NET.init(jax.random.key(0), 2)
XS = np.ones((4, 2, 2), np.float32)


def calls(folder):
    """The arguments by name; see `calls.all_calls`."""
    options = {"params": False, "platforms": ("cpu",)}
    return {
        "export.unroll": {"model": MODEL, "xs": XS, "mask": True, "carry": True, **options},
        "export.step": {"model": MODEL, "x": XS[0], **options},
        "export.params": {"model": MODEL},
        "export.save": {"path": folder / "program", "program": export.step(MODEL, XS[0])},
    }
