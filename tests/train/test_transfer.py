"""What was saved into another tree: parts, new names, leaves that stay, and what was left out by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn, train
from tests.untyped import untyped

BODY = {"w": jnp.arange(3.0), "b's": jnp.ones(2)}
SAVED = {"net": {"body": BODY, "head": {"w": jnp.zeros((2, 5)), "b": jnp.zeros(5)}}, "best": [jnp.ones(1)]}


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_leaves_of_the_same_paths_are_read_and_the_others_named(tmp_path):
    train.save(tmp_path, SAVED)
    head = {"w": jnp.full((2, 7), 3.0), "scale": jnp.ones(7)}
    new = {"body": jax.tree.map(jnp.zeros_like, BODY), "head": head, "empty": jnp.zeros((0, 2))}
    tree, fresh, left_out = train.transfer(tmp_path, new, part="net", fresh="head/w")
    assert_same(tree, {"body": BODY, "head": head, "empty": jnp.zeros((0, 2))})
    assert sorted(fresh) == ["head/scale", "head/w"]
    assert sorted(left_out) == ["head/b", "head/w"]


def test_parts_are_read_under_other_names(tmp_path):
    train.save(tmp_path, SAVED)
    like = {"encoder": {"inner": {"w": jnp.zeros(3)}, "b's": jnp.zeros(2)}, "bias": jnp.zeros(5), "again": jnp.zeros(1)}
    renamed = {"encoder": "net/body", "encoder/inner": "net/body", "bias": "net/head/b", "again": "best/0"}
    tree, fresh, left_out = train.transfer(tmp_path, like, renamed=renamed)
    assert_same(tree["encoder"], {"inner": {"w": BODY["w"]}, "b's": BODY["b's"]})
    assert (tree["again"], fresh, left_out) == (1, (), ("net/head/w",))
    assert_same(train.transfer(tmp_path, BODY, renamed={"": "net/body"}).tree, BODY)


def test_a_model_takes_over_the_layer_of_another(tmp_path):
    """The params of a tagger's layer, by their names alone, in a language model and in a net of the core."""
    tagger = nn.SequenceTagger(jaxseq.gru(4), 3, 2, rngs=nnx.Rngs(0))
    train.save_model(tmp_path, tagger)
    model = nn.LanguageModel(jaxseq.stack(jaxseq.gru(4), jaxseq.gru(4)), 7, 3, rngs=nnx.Rngs(1))
    before = jax.tree.map(jnp.copy, nnx.state(model))
    tree, fresh, left_out = train.transfer(
        tmp_path, before, renamed={"recurrent/params/0": "recurrent/params"}, fresh="head/*"
    )
    assert_same(tree["recurrent"]["params"][0], nnx.state(tagger)["recurrent"]["params"])
    assert_same(tree["recurrent"]["params"][1], before["recurrent"]["params"][1])
    rest = ("b", "b_hn", "w_h", "w_x")
    assert sorted(fresh) == [
        "embedding/embedding",
        "head/bias",
        "head/kernel",
        *(f"recurrent/params/1/{name}" for name in rest),
    ]
    assert left_out == ("head/bias", "head/kernel")
    like = jaxseq.gru(4).init(jax.random.key(0), 3)
    of_net = train.transfer(tmp_path, jax.eval_shape(lambda: like), part="recurrent/params")
    assert_same(of_net.tree, jaxseq.GruParams(*(param[...] for param in untyped(tagger.recurrent).params)))


def test_what_leads_nowhere_is_named(tmp_path):
    train.save(tmp_path, SAVED)
    like = {"body": BODY, "head": {"w": jnp.zeros((2, 7)), "scale": jnp.ones(7)}}
    for options, error, message in (
        ({}, ValueError, "nothing of `like` is in .*, whose paths are best/0, net/body/b's, net/body/w, net/head/b"),
        (
            {"part": "net"},
            ValueError,
            r"\['head'\]\['w'\] is float32 \(2, 5\), `like` has float32 \(2, 7\)\. Name leaves not to be read",
        ),
        (
            {"part": "net", "fresh": "heads/*"},
            ValueError,
            "`fresh` 'heads/\\*' matches no leaf; the paths are body/b's",
        ),
        (
            {"renamed": {"bode": "net/body"}},
            ValueError,
            "`renamed` 'bode' is not a path of `like`; the paths are body/b's",
        ),
        (
            {"renamed": {"body": "net/bod"}},
            ValueError,
            "`renamed` to 'net/bod' is not a path in `part` '' of what was stored; the paths",
        ),
        ({"renamed": {"body": 3}}, TypeError, "`renamed` must be a dict of paths"),
        ({"renamed": "body"}, TypeError, "`renamed` must be a dict of paths"),
        ({"fresh": 3}, TypeError, "`fresh` must be a pattern"),
        ({"part": 3}, TypeError, "`part` must be a path"),
        ({"part": "ne"}, ValueError, "`part` must be in .*; got 'ne'"),
    ):
        with pytest.raises(error, match=message):
            train.transfer(tmp_path, like, **untyped(options))
    twice = {"w": {"b": jnp.zeros(2)}, "w/b": jnp.ones(2)}
    with pytest.raises(ValueError, match="`like` must have one leaf to a path; it has several of w/b"):
        train.transfer(tmp_path, twice, renamed={"w": "net/head"})
    train.save(tmp_path / "twice", twice)
    with pytest.raises(ValueError, match=r"what was stored in .* must have one leaf to a path; it has several of w/b"):
        train.transfer(tmp_path / "twice", {"w": {"b": jnp.zeros(2)}})
    with pytest.raises(TypeError, match=r"`like\['head'\]\['scale'\]` is not read, and must be an array"):
        train.transfer(tmp_path, jax.eval_shape(lambda: like), part="net", fresh="head/w")
