"""What does not fit is refused by its name, in words short enough to read."""

import pickle

import jax
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import linen, nn
from tests.nn.drawn import drawn
from tests.untyped import untyped

XS, IDS = np.ones((2, 4, 3), np.float32), np.ones((2, 4), np.int32)
READS = {"source_vocabulary": 5, "target_vocabulary": 5, "features": 3, "start": 0, "end": 1}
TCN, TRANSFORMER = drawn(nn.TCN, 3, [4]), drawn(nn.Transformer, 3, 4, layers=1, heads=2, causal=True, max_length=5)
SEQ2SEQ = drawn(nn.Seq2Seq, jaxseq.rnn(4), jaxseq.rnn(4), **READS)
LINEN = linen.Recurrent(jaxseq.rnn(4))
JUNK = [None, 0, "a", [3], {}, np.ones(3), np.array(1j)]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *[
            ("ys", lambda junk, pool=pool: pool(junk))
            for pool in (nn.last_pool, nn.ends_pool, nn.mean_pool, nn.max_pool, nn.mean_max_pool)
        ],
        ("ys", lambda junk: nn.attention_pool(junk, XS[..., 0])),
        ("ys", lambda junk: drawn(nn.AttentionPool, 3)(junk)),
        ("scores", lambda junk: nn.attention_pool(XS, junk)),
        ("parameters", lambda junk: nn.Gaussian().interval(junk, 0.9)),
        ("parameters", lambda junk: nn.Quantiles((0.3, 0.5)).point(junk)),
        ("raw", lambda junk: nn.Gaussian().parameters(junk)),
        (
            "key",
            lambda junk: nn.Gaussian().sample(untyped(None if isinstance(junk, np.ndarray) else junk), np.ones((2, 2))),
        ),
        *[("batch_shape", lambda junk, layer=layer: layer.initial_carry(junk)) for layer in (TCN, TRANSFORMER)],
        ("carry", lambda junk: TCN(XS, "none" if junk is None else junk)),
        ("carry", lambda junk: TRANSFORMER(XS, "none" if junk is None else junk)),
        ("carry", lambda junk: SEQ2SEQ.step(junk, IDS[:, 0])),
        ("source_mask", lambda junk: SEQ2SEQ.loss(IDS, IDS, source_mask=untyped("all" if junk is None else junk))),
        ("decode", lambda junk: SEQ2SEQ.generate(IDS, 3, decode=junk)),
        (
            "sampled",
            lambda junk: SEQ2SEQ.loss(IDS, IDS, sampled=2.0 if isinstance(junk, int) else junk, key=jax.random.key(0)),
        ),
        ("features", lambda junk: nn.AttentionPool(junk, rngs=nnx.Rngs(0))),
        ("rngs", lambda junk: nn.CRF(3, rngs=junk)),
    ],
)
def test_junk_is_refused_by_name(name, call, junk):
    if name == "batch_shape" and not (junk is None or isinstance(junk, int | str | dict)):
        junk = [-1]
    with pytest.raises((TypeError, ValueError), match=f"`{name}") as error:
        jax.eval_shape(lambda: jax.tree.leaves(call(junk)) and None)
    assert len(str(error.value).split("\n---")[0]) < 400


def test_linen_names_wrong_features():
    variables = {"params": {"weights": jaxseq.rnn(4).init(jax.random.key(0), 3)}}
    with pytest.raises(ValueError, match="for inputs of D = 2 features"):
        LINEN.apply(variables, XS[..., :2])


@pytest.mark.parametrize("module", [TCN, TRANSFORMER], ids=["tcn", "transformer"])
def test_modules_pickle(module):
    again = pickle.loads(pickle.dumps(module))
    np.testing.assert_array_equal(jax.jit(again)(XS), jax.jit(module)(XS))
