import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import diagnostics
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

GATE = np.array(  # [T, B, H] = [4, 2, 3]
    [
        [[0.05, 0.95, 0.5], [0.05, 0.05, 0.1]],
        [[0.05, 0.99, 0.5], [0.95, 0.50, 0.9]],
        [[0.50, 0.91, 0.5], [0.95, 0.50, 0.1]],
        [[0.05, 0.95, 0.5], [0.50, 0.50, 0.9]],
    ]
)


def test_shares_of_all_steps():
    left, right = diagnostics.saturation(GATE)
    np.testing.assert_array_equal(left, [4 / 8, 1 / 8, 0])  # 0.1 and 0.9 are the ends themselves, not beyond them
    np.testing.assert_array_equal(right, [2 / 8, 4 / 8, 0])


def test_only_real_steps_count():
    mask = np.array([[True, True], [True, False], [False, False], [False, False]])
    spoilt = np.where(mask[..., None], GATE, np.nan)
    left, right = diagnostics.saturation(spoilt, mask=mask)
    np.testing.assert_allclose(left, [1, 1 / 3, 0], rtol=1e-15)
    np.testing.assert_allclose(right, [0, 2 / 3, 0], rtol=1e-15)
    none = diagnostics.saturation(GATE, mask=np.zeros((4, 2), bool))
    np.testing.assert_array_equal(none, np.zeros((2, 3)))


def test_ends_can_be_moved_and_batch_axes_are_free():
    left, right = diagnostics.saturation(GATE[:, 1], low=0.5, high=0.5)
    np.testing.assert_array_equal(left, [1 / 4, 1 / 4, 2 / 4])
    np.testing.assert_array_equal(right, [2 / 4, 0, 2 / 4])


def test_errors():
    with pytest.raises(TypeError, match="`gate` must be an array"):
        diagnostics.saturation(untyped(0.5))
    with pytest.raises(ValueError, match=r"`gate` must be \[T, B, H\], of at least 2 axes; got \(3,\)"):
        diagnostics.saturation(GATE[0, 0])
    with pytest.raises(ValueError, match=r"`low` must not be above `high`; got 0.9 and 0.1"):
        diagnostics.saturation(GATE, low=0.9, high=0.1)
    with pytest.raises(ValueError, match="`mask` must be bool"):
        diagnostics.saturation(GATE, mask=np.ones(4, bool))


def test_plot_draws_each_unit(plt):
    shares = {
        "i": diagnostics.Saturation(jnp.array([0.1, 0.2]), jnp.array([0.9, 0.3])),
        "f": diagnostics.Saturation(jnp.array([0.0, 0.5]), jnp.array([1.0, 0.5])),
    }
    ax = diagnostics.plot_saturation(shares)
    for points, name in zip(ax.collections, shares, strict=True):
        np.testing.assert_array_equal(points.get_offsets(), np.stack(shares[name], axis=-1))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["i", "f"]
    np.testing.assert_array_equal(ax.get_lines()[0].get_xydata(), [[0, 1], [1, 0]])
    assert diagnostics.plot_saturation(shares, ax=ax) is ax
    ax.figure.canvas.draw()
