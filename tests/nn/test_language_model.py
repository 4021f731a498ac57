"""The language model: streaming, tied weights, and what it writes against a plain Python loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import decoding, nn
from tests import zoo
from tests.nn.drawn import drawn
from tests.untyped import untyped

V = 7
NET = jaxseq.gru(4)
PROMPT = np.random.default_rng(0).integers(0, V, (3, 4))
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], bool)


@functools.cache
def model_of(tied=False, features=3, ngrams=None):
    return drawn(nn.LanguageModel, NET, V, features, tied=tied, ngrams=ngrams, seed=4, scale=2)


NGRAMS = nn.NGrams((2, 4), buckets=50, features=3)


run = nnx.jit(lambda model, ids, mask=None: model.unroll(ids, mask=mask))
generate = nnx.jit(nn.LanguageModel.generate, static_argnames=("length", "end", "temperature", "top_k"))


@pytest.mark.parametrize("ngrams", [None, NGRAMS])
def test_step_repeated_is_unroll(ngrams):
    model = model_of(ngrams=ngrams)
    want_carry, want = jax.tree.map(np.asarray, run(model, PROMPT))
    step = nnx.jit(lambda model, carry, ids, reset: model.step(carry, ids, reset=reset))
    carry, logits = nnx.jit(lambda model: model.initial_carry((3,)))(model), []
    for t in range(4):
        carry, row = step(model, carry, PROMPT[:, t], np.zeros(3, bool))
        logits.append(row)
    zoo.assert_close((np.stack(logits, 1), carry), (want, want_carry), 1e-6)
    reset = np.array([True, False, True])
    _, fresh = step(model, carry, PROMPT[:, 0], reset)
    zoo.assert_close(fresh[0], want[0, 0], 1e-6)


@pytest.mark.parametrize("features", [3, 4])
def test_tied_weights_are_one_param_with_one_gradient(features):
    """The gradient is the sum of those of the two places where the matrix stands."""
    model = model_of(True, features)
    names = {path[0] for path, _ in nnx.to_flat_state(nnx.state(model))}
    assert names == ({"embedding", "recurrent"} if features == 4 else {"embedding", "recurrent", "head"})
    gradient = nnx.jit(nnx.grad(lambda model: jnp.sum(model(PROMPT) ** 2)))(model).embedding.embedding[...]

    def apart(read, written):
        _, ys = jaxseq.unroll(NET, params, jnp.swapaxes(read[PROMPT], 0, 1))
        if model.head is not None:
            assert model.head.bias is not None
            ys = ys @ model.head.kernel[...] + model.head.bias[...]
        return jnp.sum((ys @ written.T) ** 2)

    params = jax.tree.map(lambda p: p[...], untyped(model.recurrent).params, is_leaf=lambda p: isinstance(p, nnx.Param))
    matrix = model.embedding.embedding[...]
    d_read, d_written = jax.jit(jax.grad(apart, argnums=(0, 1)))(matrix, matrix)
    np.testing.assert_allclose(gradient, np.add(d_read, d_written), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ngrams", [None, NGRAMS])
def test_greedy_is_a_plain_loop_of_argmax_over_the_whole_sequence(ngrams):
    model, length = model_of(ngrams=ngrams), 6
    want = []
    for ids, mask in zip(PROMPT, MASK, strict=True):
        text = np.zeros((1, 4 + length), int)  # one shape for all, padded at the end
        real = int(mask.sum())
        text[0, :real] = ids[mask]
        for n in range(real, real + length):
            logits = np.asarray(run(model, text, np.arange(4 + length)[None] < n)[1])
            text[0, n] = np.argmax(logits[0, n - 1])
        want.append(text[0, real : real + length])
    got = generate(model, np.where(MASK, PROMPT, -1), length, mask=MASK, temperature=0)
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) > 2  # not one id over and over


def test_samples_are_those_of_a_plain_loop():
    model, key, length = model_of(), jax.random.key(3), 4
    options = {"temperature": 0.8, "top_k": 5, "top_p": 0.9}
    carry = np.full((3, 4), 0.3, np.float32)
    got = generate(model, PROMPT, length, key=key, carry=carry, **options)

    @nnx.jit
    def by_hand(model):
        state, logits = model.unroll(PROMPT, carry)
        logits, ids = logits[:, -1], []
        for step_key in jax.random.split(key, length):
            ids.append(decoding.draw(step_key, logits, **options))
            state, logits = model.step(state, ids[-1])
        return jnp.stack(ids, 1)

    np.testing.assert_array_equal(got, by_hand(model))
    assert got.dtype == jnp.int32


def test_a_row_is_over_after_its_end():
    model, length = model_of(), 6
    free = np.asarray(generate(model, PROMPT, length, temperature=0))
    end = int(free[0, 2])
    want = free.copy()
    for row in want:
        row[np.cumsum(row == end) - (row == end) > 0] = -1
    assert np.any(want == -1)
    np.testing.assert_array_equal(generate(model, PROMPT, length, temperature=0, end=end), want)


def transformer(**options):
    def make(rngs):
        return nn.LanguageModel(nn.Transformer(3, 4, heads=2, causal=True, **options, rngs=rngs), 7, 3, rngs=rngs)

    return drawn(make)


@pytest.mark.learn
def test_a_transformer_reads_many_at_once_and_goes_back():
    """Speculative decoding writes the same with `read` and by steps, whatever stays of what was guessed."""
    model, draft = transformer(layers=2, max_length=16), drawn(nn.LanguageModel, NET, 7, 3)

    @functools.partial(nnx.jit, static_argnames="reads")
    def write(model, draft, *, reads):
        carries = model.initial_carry((3,)), draft.initial_carry((3,))
        return decoding.speculative(
            jax.random.key(0), model.step, carries[0], draft.step, carries[1], PROMPT[:, 0],
            max_length=10, end=6, ahead=4, read=model.read if reads else None,
        )  # fmt: skip

    by_steps, at_once = (write(model, draft, reads=reads) for reads in (False, True))
    np.testing.assert_array_equal(at_once.tokens, by_steps.tokens)
    np.testing.assert_array_equal(at_once.rounds, by_steps.rounds)
    np.testing.assert_allclose(at_once.scores, by_steps.scores, rtol=1e-4)
    assert np.any(np.asarray(by_steps.lengths) > np.asarray(by_steps.rounds))
    with pytest.raises(ValueError, match=r"`read` needs a carry, and a model without n-grams whose layer has `rewind`"):
        draft.read(np.zeros((3, 4), np.float32), PROMPT.T)


def test_what_is_no_number_is_not_written():
    model = transformer(layers=1, max_length=6)
    with pytest.raises(
        ValueError, match=r"a prompt of 4 and 4 more ids, of which .*, do not fit into the 6 steps of `max_length"
    ):
        model.generate(PROMPT, 4, temperature=0)
    assert np.all(np.asarray(generate(model, PROMPT, 3, temperature=0)) >= 0)
    mask = np.arange(4) < np.array([[4], [2], [1]])  # each row stops where its room ends
    got = generate(model, PROMPT, 7, mask=mask, temperature=0)
    np.testing.assert_array_equal(np.asarray(got) >= 0, np.arange(7) < np.array([[3], [5], [6]]))
    wrong = generate(model_of(), np.where(np.arange(4) == 2, 99, PROMPT), 3, key=jax.random.key(0))
    np.testing.assert_array_equal(wrong, -1)


def test_a_prompt_may_come_without_batch_axes():
    model = model_of()
    want = np.asarray(generate(model, PROMPT, 3, temperature=0))[1]
    np.testing.assert_array_equal(generate(model, PROMPT[1], 3, temperature=0), want)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.LanguageModel(jaxseq.bidirectional(NET), V, 3, rngs=nnx.Rngs(0)),
            ValueError,
            "`cell` must be causal; this one reads later steps, as bidirectional does",
        ),
        (
            lambda: nn.LanguageModel(NET, V, 3, tied=untyped("yes"), rngs=nnx.Rngs(0)),
            ValueError,
            "`tied` must be True or",
        ),
        (
            lambda: nn.LanguageModel(NET, V, 3, ngrams=untyped((2,)), rngs=nnx.Rngs(0)),
            TypeError,
            "`ngrams` must be nn.NGrams",
        ),
        (lambda: model_of(ngrams=NGRAMS)(PROMPT, jnp.zeros((3, 4))), TypeError, "`carry` must be the nn.LanguageCarry"),
        (
            lambda: model_of(ngrams=NGRAMS)(PROMPT, model_of(ngrams=NGRAMS).initial_carry((2,))),
            ValueError,
            r"`carry.recent` must be int32 \(3, 3\), the last ids from this model for this batch; got int32 \(2, 3\)",
        ),
        (
            lambda: model_of(ngrams=NGRAMS).step(nn.LanguageCarry(None, jnp.zeros((3, 3))), PROMPT[:, 0]),
            ValueError,
            r"`carry.recent` must be int32 \(3, 3\).*; got float32 \(3, 3\)",
        ),
        (lambda: nn.LanguageModel(NET, 0, 3, rngs=nnx.Rngs(0)), ValueError, "`vocabulary` must be a positive int"),
        (lambda: model_of()(PROMPT * 1.0), TypeError, r"`ids` must be int ids \[B, T\]; got float32 \(3, 4\)"),
        (lambda: model_of().step(None, PROMPT * 1.0), TypeError, r"`ids` must be int ids \[B\]"),
        (lambda: model_of().generate(PROMPT[:, :0], 3, temperature=0), ValueError, "`prompt` must hold at least one"),
        (lambda: model_of().generate(PROMPT, 0, temperature=0), ValueError, "`length` must be a positive int; got 0"),
        (
            lambda: model_of().generate(PROMPT, 3),
            ValueError,
            "`key` must be a jax.random.key; it may be None only if temperature=0",
        ),
        (lambda: model_of().generate(PROMPT, 3, key=untyped(0)), TypeError, "`key` must be a jax.random.key or None"),
        (lambda: model_of().generate(PROMPT * 1.0, 3), TypeError, r"`prompt` must be int ids \[B, P\]"),
        (lambda: model_of().generate(jnp.array(1), 3), ValueError, r"`prompt` must be int ids \[B, P\], of at least"),
    ],
)
def test_errors(call, error, message):
    _ = model_of(), model_of(ngrams=NGRAMS)  # made outside of the tracing, as they are kept
    with pytest.raises(error, match=message):
        jax.eval_shape(call)


def test_an_eager_call_compiles_once_and_sees_new_params(count_compilations):
    model = nn.LanguageModel(NET, V, 3, rngs=nnx.Rngs(0))
    write = lambda seed, temperature: model.generate(PROMPT, 3, key=jax.random.key(seed), temperature=temperature)
    write(0, 0.5)
    assert model.head is not None
    assert model.head.bias is not None
    model.head.bias[...] = np.where(np.arange(V) == 2, 100, 0).astype(np.float32)
    assert count_compilations(lambda: np.testing.assert_array_equal(write(1, 0.7), 2)) == 0
