"""Sequences from a step function, which is one function in all calls."""

import jax
import jax.numpy as jnp

from jaxseq import decoding
from tests.modes.inputs import B, V, floats, key
from tests.modes.table import of


def step(carry, tokens):
    """Logits of the tokens so far, added up."""
    carry = carry + jax.nn.one_hot(tokens, V)
    return carry, jnp.tanh(carry @ floats(V, V)) * 3


def allowed(tokens, t):
    """Not the token before."""
    return jnp.arange(V)[None] != tokens[..., None]


def _start():
    return step, jnp.zeros((B, V)), jnp.zeros(B, jnp.int32)


@of("decoding.greedy")
def greedy():
    return decoding.greedy(*_start(), max_length=3, end=1)


@of("decoding.sample")
def sample():
    return decoding.sample(key(), *_start(), max_length=3, end=1, temperature=0.7, top_k=3, top_p=0.9, typical=0.9)


@of("decoding.beam_search")
def beam_search():
    return decoding.beam_search(*_start(), size=2, max_length=3, end=1, length_penalty=0.6)


@of("decoding.speculative")
def speculative():
    step, carry, start = _start()
    return decoding.speculative(key(), step, carry, step, carry, start, max_length=3, end=1, ahead=2)


@of("decoding.draw", "decoding.filter_logits")
def draw():
    logits = floats(B, V)
    return decoding.draw(key(), logits, top_k=2), decoding.filter_logits(
        logits, temperature=0.5, top_p=0.8, typical=0.7
    )
