import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import diagnostics

WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])


def test_a_row_is_an_output_and_a_column_an_input(plt):
    ax = diagnostics.plot_alignment(jnp.asarray(WEIGHTS), source=["a", "b", "c"], target=["AH0", "B"])
    (image,) = ax.get_images()
    np.testing.assert_allclose(np.asarray(image.get_array()), WEIGHTS, rtol=1e-6)
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["AH0", "B"]
    assert [label.get_rotation() for label in ax.get_xticklabels()] == [0, 0, 0]
    again = diagnostics.plot_alignment(WEIGHTS, source=["long", "names", "turn"], ax=ax)
    assert again is ax
    ax.figure.canvas.draw()
    assert ax.get_xticklabels()[0].get_rotation() == 60
    assert ax.get_ylabel() == "output"


def test_errors(plt):
    with pytest.raises(ValueError, match=r"`weights` must be \[L, S\], of one row of the batch; got \(1, 2, 3\)"):
        diagnostics.plot_alignment(WEIGHTS[None])
    with pytest.raises(ValueError, match="`source` must hold one name for each of the S = 3 of `weights`; got 2"):
        diagnostics.plot_alignment(WEIGHTS, source=["a", "b"])
    with pytest.raises(ValueError, match="`target` must hold one name for each of the L = 2 of `weights`; got 3"):
        diagnostics.plot_alignment(WEIGHTS, target="abc")
