"""Chains over time that is split over devices: the numbers are those of one device, of one exchange each way."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxseq.structured import crf, hmm
from tests import compiled, zoo

T, B, K = 16, 3, 4
MASK = np.random.default_rng(1).random((T, B)) < 0.7
MASK[4:8, 0], MASK[:, 2] = False, np.arange(T) < 2  # whole stretches of padding
TAGS = np.random.default_rng(2).integers(0, K, (T, B)).astype(np.int32)
EXCHANGES = r"(all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("


def summed(function):
    """The value and gradients of a function of params and scores."""
    return lambda params, scores, mask, parallel: jax.value_and_grad(
        lambda params, scores: jnp.sum(function(params, scores, mask=mask, parallel=parallel)), (0, 1)
    )(params, scores)


def by_step(params, scores, **options):
    """Of a transition of every step."""
    changing = params.transition * jnp.cos(jnp.arange(1.0, T))[:, None, None]
    return hmm.log_likelihood(params.start, changing, scores, **options)


CALLS = {
    "crf.log_partition": summed(crf.log_partition),
    "crf.log_likelihood": summed(lambda params, scores, **of: crf.log_likelihood(params, scores, TAGS, **of)),
    "hmm.log_likelihood": summed(lambda p, scores, **of: hmm.log_likelihood(p.start, p.transition, scores, **of)),
    "of transitions of every step": summed(by_step),
    "hmm.filter": lambda p, scores, mask, parallel: jnp.exp(
        hmm.filter(p.start, p.transition, scores, mask=mask, parallel=parallel)
    ),
    "crf.marginals": lambda p, scores, mask, parallel: crf.marginals(p, scores, mask=mask, parallel=parallel),
    "crf.viterbi": lambda p, scores, mask, parallel: crf.viterbi(p, scores, mask=mask, parallel=parallel),
}


@pytest.mark.some(1, learn=8)
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.learn), True])
@pytest.mark.parametrize(
    "name", [name if name == "crf.marginals" else pytest.param(name, marks=pytest.mark.learn) for name in CALLS]
)
def test_numbers_are_those_of_one_device(name, masked, x64):
    mesh = jax.make_mesh((4,), ("time",), axis_types=(AxisType.Auto,))
    over_time = NamedSharding(mesh, PartitionSpec("time"))
    random = np.random.default_rng(0)
    params = crf.Params(*(random.normal(size=size) for size in ((K, K), (K,), (K,))))
    scores, mask = random.normal(size=(T, B, K)), MASK if masked else None
    want = jax.jit(CALLS[name], static_argnums=3)(params, scores, mask, False)
    there = jax.device_put(params, NamedSharding(mesh, PartitionSpec())), *jax.device_put((scores, mask), over_time)
    run = jax.jit(CALLS[name], static_argnums=3).lower(*there, over_time).compile()
    zoo.assert_close(run(*there), want, 1e-10)
    found = dict(collections.Counter(re.findall(EXCHANGES, compiled.text(run))))
    if name == "hmm.filter":
        assert found == {"all-gather": 1, **({"all-reduce": 1} if masked else {})}  # where a row's first step is
    if name == "crf.marginals":
        assert found == {"all-gather": 2, "collective-permute": 1, **({"all-reduce": 1} if masked else {})}


def test_steps_that_devices_do_not_divide_are_refused():
    over_time = NamedSharding(jax.make_mesh((4,), ("time",)), PartitionSpec("time"))
    params = crf.Params(np.zeros((K, K)), np.zeros(K), np.zeros(K))
    with pytest.raises(
        ValueError, match=r"multiple of the 4 devices of `parallel`; got 15. Pad the sequences, and give a mask"
    ):
        crf.log_partition(params, np.zeros((15, B, K), np.float32), parallel=over_time)
