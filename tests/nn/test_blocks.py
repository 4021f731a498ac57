"""The residual blocks against their equations, and what puts them one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from tests.nn import plain_blocks
from tests.nn.blocks import BLOCKS, H, all_blocks
from tests.nn.drawn import drawn

B, T = 2, 9
XS = np.random.default_rng(0).normal(size=(B, T, H))


def plain(module):
    """Params as nested dicts of arrays; NamedTuples by their fields, lists by their places."""
    return nested(nnx.to_pure_dict(nnx.state(module, nnx.Param)))


def nested(tree):
    if isinstance(tree, dict):
        return {name: nested(each) for name, each in tree.items()}
    if hasattr(tree, "_asdict"):
        return nested({name: each for name, each in tree._asdict().items() if each is not None})
    return np.asarray(tree)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_its_equations(name, x64):
    block = drawn(BLOCKS[name].make)
    want = [BLOCKS[name].plain(plain(block), xs) for xs in XS]
    np.testing.assert_allclose(jax.jit(block)(jnp.asarray(XS)), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["rms", "layer", None])
def test_blocks_are_run_one_after_the_other_and_normalised(norm, x64):
    def make(rngs):
        blocks = [BLOCKS["mamba"].make(rngs=rngs), BLOCKS["griffin"].make(rngs=rngs)]
        return nn.Blocks(blocks, in_features=3, norm=norm, epsilon=0.01, rngs=rngs)

    layer, xs = drawn(make), XS[:, :, :3]
    params = plain(layer)
    names = BLOCKS["mamba"], BLOCKS["griffin"]
    want = [plain_blocks.linear(row, params["enter"]) for row in xs]
    for place, entry in enumerate(names):
        want = [entry.plain(params["blocks"][place], row) for row in want]
    if norm is not None:
        normed = {"rms": plain_blocks.rms, "layer": plain_blocks.layer}[norm]
        want = [[normed(x, params["last_norm"]["scale"], 0.01) for x in row] for row in want]
    np.testing.assert_allclose(jax.jit(layer)(jnp.asarray(xs)), want, rtol=1e-10, atol=1e-10)
