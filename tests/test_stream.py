"""Streaming in chunks of any size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxseq
from tests import zoo
from tests.untyped import untyped

NET = zoo.find("deep(lstm)").cell
PARAMS = zoo.params_of(NET, 3)
XS = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2, 3)), jnp.float32)


@jax.jit
def first_steps(xs, mask):
    """Padded, so that every number of steps is one program."""
    return jaxseq.unroll(NET, PARAMS, xs, mask=mask)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_chunks_of_any_size_are_the_whole(sizes):
    borders = np.minimum(np.cumsum([0, *sizes]), 12)
    xs, T = np.asarray(XS), borders[-1]
    chunks = [jnp.asarray(xs[first:end]) for first, end in itertools.pairwise(borders)]
    pieces = list(jaxseq.stream(NET, PARAMS, chunks))
    want_carry, want_ys = first_steps(xs, np.arange(12)[:, None] < [T, T])
    zoo.assert_close(np.concatenate([ys for _, ys in pieces]), np.asarray(want_ys)[:T], 1e-6)
    zoo.assert_close(pieces[-1][0], want_carry, 1e-6)


def test_it_compiles_once_for_a_size(count_compilations):
    def run():
        return [ys for _, ys in jaxseq.stream(NET, PARAMS, [XS[:5], XS[5:10]])]

    NET.carry(PARAMS, (2,))
    jax.block_until_ready((XS[:5], XS[5:10]))
    assert count_compilations(run) == 1
    assert count_compilations(run) == 0


def test_it_takes_one_chunk_at_a_time():
    taken = []

    def microphone():
        for t in range(3):
            taken.append(t)
            yield XS[t : t + 1]

    stream = jaxseq.stream(NET, PARAMS, microphone())
    assert taken == []
    next(stream)
    assert taken == [0]


def test_it_resumes_from_a_carry():
    (carry, _), *_ = jaxseq.stream(NET, PARAMS, [XS[:7]])
    ((_, ys),) = jaxseq.stream(NET, PARAMS, [XS[7:]], carry)
    zoo.assert_close(ys, jaxseq.unroll(NET, PARAMS, XS)[1][7:], 1e-6)


def test_numpy_chunks():
    ((_, ys),) = jaxseq.stream(NET, PARAMS, [np.asarray(XS)])
    zoo.assert_close(ys, jaxseq.unroll(NET, PARAMS, XS)[1], 1e-6)


def test_errors():
    with pytest.raises(TypeError, match=r"`cell` must be a jaxseq.Cell"):
        jaxseq.stream(untyped("lstm"), PARAMS, [XS])
    for chunks in (XS, np.asarray(XS), 5):
        with pytest.raises(TypeError, match=r"`chunks` must be an iterable of arrays \[t, B, D\]; got"):
            jaxseq.stream(NET, PARAMS, untyped(chunks))
    with pytest.raises(ValueError, match=r"`xs` must be"):
        next(jaxseq.stream(NET, PARAMS, [XS[0, 0]]))
