"""The temporal convolutional network and the convolution of texts against their equations, one output at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from tests.nn.drawn import drawn

T, D = 7, 3
XS = np.random.default_rng(0).normal(size=(2, T, D)).astype(np.float32)


def convolved(conv, xs):
    kernel = np.asarray(conv.kernel[...], np.float64)
    if conv.scale is not None:
        norms = np.sqrt((kernel**2).sum((0, 1)))
        kernel = kernel / norms * np.asarray(conv.scale[...])
    return np.array(
        [
            np.asarray(conv.bias[...])
            + sum(xs[t - k * conv.dilation] @ kernel[k] for k in range(len(kernel)) if t >= k * conv.dilation)
            for t in range(len(xs))
        ]
    )


@pytest.mark.parametrize(
    ("channels", "width", "weight_norm"), [((4, 4), 3, True), ((3, 5, 2), 2, False), ((4,), 1, True)]
)
def test_tcn_is_its_equations(channels, width, weight_norm):
    layer = drawn(nn.TCN, D, channels, width=width, weight_norm=weight_norm)
    got = np.asarray(jax.jit(layer)(XS))
    assert got.shape == (2, T, layer.size)
    assert layer.size == channels[-1]
    assert layer.receptive_field == 1 + 2 * (width - 1) * (2 ** len(channels) - 1)
    for xs, ys in zip(XS.astype(np.float64), got, strict=True):
        for block, shortcut in enumerate(layer.shortcuts):
            hidden = xs
            for conv in layer.convs[2 * block : 2 * block + 2]:
                assert conv.dilation == 2**block
                hidden = np.maximum(convolved(conv, hidden), 0)
            if shortcut is not None:
                xs = xs @ np.asarray(shortcut.kernel) + np.asarray(shortcut.bias)
            xs = np.maximum(hidden + xs, 0)
        np.testing.assert_allclose(ys, xs, rtol=0, atol=1e-4)


def test_weight_normalisation_begins_as_without():
    run = jax.jit(lambda xs: [nn.TCN(D, [4], weight_norm=on, rngs=nnx.Rngs(0))(xs) for on in (True, False)])
    np.testing.assert_allclose(*run(XS), atol=1e-6)


MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0], [0] * 7], bool)


def test_text_cnn_is_its_equations_and_padding_is_not_there():
    model = drawn(nn.TextCNN, D, 4, widths=(1, 3, 5), filters=2)
    xs = np.random.default_rng(1).normal(size=(len(MASK), T, D)).astype(np.float32)
    run = jax.jit(lambda xs, mask: model(xs, mask=mask))
    got = np.asarray(run(np.where(MASK[..., None], xs, np.nan), MASK))
    for row, mask, logits in zip(xs, MASK, got, strict=True):
        found = []
        for width, conv in zip((1, 3, 5), model.convs, strict=True):
            assert conv.bias is not None
            real = np.concatenate([row[mask], np.zeros((width - 1, D))])
            windows = [real[t : t + width] for t in range(mask.sum())]
            kernel, bias = np.asarray(conv.kernel[...]), np.asarray(conv.bias[...])
            maps = [np.maximum((window[..., None] * kernel).sum((0, 1)) + bias, 0) for window in windows]
            found.append(np.max(maps, 0) if maps else np.zeros(2))
        want = np.concatenate(found) @ np.asarray(model.head.kernel) + np.asarray(model.head.bias)
        np.testing.assert_allclose(logits, want, rtol=0, atol=1e-4)
    whole = jax.jit(model)(xs[:1])
    np.testing.assert_allclose(whole, got[:1], atol=1e-5)


def test_text_cnn_on_ids_has_dropout_by_key_and_gradients_without_padding():
    graph, params = nnx.split(drawn(nn.TextCNN, D, 4, filters=3, vocabulary=6))
    ids = np.random.default_rng(2).integers(0, 6, MASK.shape)

    @jax.jit
    def gradients(ids):
        return jax.grad(lambda params: jnp.sum(nnx.merge(graph, params)(ids, mask=MASK) ** 2))(params)

    jax.tree.map(np.testing.assert_array_equal, *(gradients(np.where(MASK, ids, fill)) for fill in (-7, 5)))
    run = jax.jit(lambda key: nnx.merge(graph, params)(ids, key=key))
    plain, one, again = (np.asarray(run(key)) for key in (None, jax.random.key(0), jax.random.key(0)))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != plain)


RNGS = nnx.Rngs(0)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: nn.TCN(D, [], rngs=RNGS), ValueError, "`channels` must hold the features of at least one block"),
        (lambda: nn.TCN(D, [4, 0], rngs=RNGS), ValueError, "`channels` must be a positive int; got 0"),
        (lambda: nn.TCN(D, [4], width=0, rngs=RNGS), ValueError, "`width` must be a positive int; got 0"),
        (lambda: nn.TCN(D, [4], dropout=1.0, rngs=RNGS), ValueError, r"`dropout` must be a rate in \[0, 1\)"),
        (lambda: drawn(nn.TCN, 4, [4])(XS), ValueError, "`xs` must have the 4 features"),
        (lambda: drawn(nn.TCN, D, [4])(XS, mask=MASK[:2].T), ValueError, "Did you pass time-major"),
        (
            lambda: drawn(nn.TCN, D, [4])(XS, drawn(nn.TCN, D, [4]).initial_carry((3,))),
            ValueError,
            "`carry` must be what this layer returned for this batch",
        ),
        (lambda: nn.TextCNN(D, 4, widths=(), rngs=RNGS), ValueError, "`widths` must hold at least one width"),
        (lambda: nn.TextCNN(D, 4, filters=0, rngs=RNGS), ValueError, "`filters` must be a positive int"),
        (lambda: drawn(nn.TextCNN, 4, 4)(XS), ValueError, "`xs` must have the 4 features"),
    ],
)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()
