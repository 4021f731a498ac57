"""The linear cells against what is published: their params' layout, and fixed numbers."""

import jax
import numpy as np
import pytest

import jaxseq
from tests.cells import published

each_case = pytest.mark.parametrize("case", published.CASES.values(), ids=published.CASES)


@each_case
def test_params_by_names_and_shapes(case):
    params = jax.eval_shape(lambda: case.cell.init(jax.random.key(0), case.in_size))
    shapes = {name: None if leaf is None else leaf.shape for name, leaf in params._asdict().items()}
    assert list(shapes.items()) == list(case.shapes.items())


@pytest.mark.some(7)
@each_case
def test_fixed_numbers(case, x64):
    params = jax.eval_shape(lambda: case.cell.init(jax.random.key(0), case.in_size))
    params = params._replace(**published.weights(case.shapes))
    for kernel in (jaxseq.kernels.scan, jaxseq.kernels.bptt):
        _, ys = jaxseq.unroll(case.cell, params, published.inputs(case.in_size), kernel=kernel)
        np.testing.assert_allclose(ys[:, 0], case.ys, rtol=1e-10, atol=1e-10)
