"""Every function of decoding compiles once for a shape when it is called eagerly, whatever step it is given."""

import inspect

import jax
import numpy as np
import pytest

from jaxseq import decoding
from tests.decoding import by_hand
from tests.decoding.by_hand import START, V

T, END = 3, 2
LOGITS = np.random.default_rng(0).normal(size=(2, V)).astype(np.float32)


def speculative(key, step, carry, start, **options):
    return decoding.speculative(key, step, carry, by_hand.step, carry, start, ahead=2, **options)


LENGTHS = {"max_length": T, "end": END}
CALLS = {
    "greedy": lambda key, number, *model: decoding.greedy(*model, **LENGTHS),
    "sample": lambda key, number, *model: decoding.sample(key, *model, temperature=number, top_p=number, **LENGTHS),
    "beam_search": lambda key, number, *model: decoding.beam_search(*model, size=2, length_penalty=number, **LENGTHS),
    "speculative": lambda key, number, *model: speculative(key, *model, temperature=number, **LENGTHS),
    "filter_logits": lambda key, number, *model: decoding.filter_logits(LOGITS * number, top_p=number),
    "draw": lambda key, number, *model: decoding.draw(key, LOGITS * number, typical=number),
}


@pytest.mark.some(3)
@pytest.mark.parametrize("name", CALLS)
def test_it_compiles_once(name, count_compilations):
    def call(number):
        def step(carry, token):  # another function at each call, of params that change
            carry, logits = by_hand.step(carry, token)
            return carry, logits * params

        params = np.array([number], np.float32)
        start = (START + round(10 * number)) % V
        return CALLS[name](jax.random.key(round(10 * number)), number, step, by_hand.carry(), start)

    call(0.3)
    assert count_compilations(lambda: call(0.5)) == 0


def test_every_function_is_here():
    assert {name for name, value in vars(decoding).items() if inspect.isfunction(value) and name[0] != "_"} == set(
        CALLS
    )


def test_what_a_step_closes_over_may_change():
    """Of one and the same function: it would be wrong to keep the program under its name."""
    params = {"w": np.array([[0, 1, 2]], np.float32)}
    step = lambda carry, token: (carry, jax.numpy.broadcast_to(params["w"], (len(token), V)))
    first = decoding.greedy(step, None, np.zeros(2, int), max_length=2)
    params["w"] = -params["w"]
    second = decoding.greedy(step, None, np.zeros(2, int), max_length=2)
    assert (first.tokens.tolist(), second.tokens.tolist()) == ([[2, 2]] * 2, [[0, 0]] * 2)
