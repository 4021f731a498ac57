"""The causal convolution, one step after the other."""

import numpy as np

import jaxseq
from tests import reference_nets
from tests.forms.complex_step import plain_form
from tests.forms.entry import Entry


def causal_conv(size):
    """w [width, H], row k that of the input k steps ago; the carry is the last inputs, in order."""

    def step(p, carry, x):
        (before,) = carry  # [width - 1, H]
        seen = np.concatenate([before, x[..., None, :]], axis=-2)
        return (seen[..., 1:, :],), p["b"] + sum(
            p["w"][..., k, :] * seen[..., -1 - k, :] for k in range(seen.shape[-2])
        )

    return plain_form(step, size)


CELLS = {
    "causal_conv": Entry(jaxseq.causal_conv(3, width=3), reference_nets.cell(causal_conv(3), [np.zeros((2, 3))])),
}
