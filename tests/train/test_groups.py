"""Groups by path, and optimisers a group, against each group trained alone."""

import fnmatch
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import jaxseq
from jaxseq.train import groups
from tests.untyped import untyped


class Model(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 12, rngs=rngs), nnx.Linear(3, 12, rngs=rngs)])


class Attention(NamedTuple):
    key: Any
    value: Any


def trees():
    """The kinds of pytrees that params come in, with two matrices each, [4, 12] and [3, 12]."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {
        "tuple": jaxseq.LstmParams(draw(4, 12), draw(3, 12), draw(12)),
        "dict": {"embed": draw(4, 12), "layers": [{"w": draw(3, 12), "b": draw(12)}]},
        "state": nnx.split(Model(nnx.Rngs(0)), nnx.Param)[1],
    }


PATHS = {
    "tuple": ["w_x", "w_h", "b"],
    "dict": ["embed", "layers/0/b", "layers/0/w"],
    "state": ["layers/0/bias", "layers/0/kernel", "layers/1/bias", "layers/1/kernel"],
}


def test_paths_are_names_and_numbers():
    for kind, tree in trees().items():
        named = groups.paths(tree)
        assert jax.tree.structure(named) == jax.tree.structure(tree)
        assert jax.tree.leaves(named) == PATHS[kind]
    net = jaxseq.stack(jaxseq.bidirectional(jaxseq.rnn(2)), jaxseq.learned_carry(jaxseq.gru(2)))
    params = jax.eval_shape(lambda key: net.init(key, 3), jax.random.key(0))
    named = jax.tree.leaves(groups.paths(params))
    assert named[:4] == ["0/forward/w_x", "0/forward/w_h", "0/forward/b", "0/backward/w_x"]
    assert named[-2:] == ["1/params/b_hn", "1/carry"]
    assert groups.paths({"head": Attention(1, 2)}) == {"head": Attention("head/key", "head/value")}
    assert groups.paths(jnp.zeros(2)) == ""


@given(st.lists(st.sampled_from(["*", "*w*", "layers/*", "layers/0/?", "[de]*", "embed", "B"]), unique=True))
def test_the_first_pattern_to_match_labels_a_leaf(patterns):
    paths = PATHS["dict"]
    expected, taken = [], set()
    for path in paths:
        match = next((p for p in patterns if re.fullmatch(fnmatch.translate(p), path)), None)
        taken.add(match)
        expected.append("rest" if match is None else match)
    params = dict(zip(("embed", "layers"), (0.0, [{"w": 1.0, "b": 2.0}]), strict=True))
    rules = {pattern: pattern for pattern in patterns}
    if taken >= set(patterns):
        assert jax.tree.leaves(groups.by_path(params, rules, default="rest")) == expected
    else:
        with pytest.raises(
            ValueError, match="selects no leaf; the paths of `params` are embed, layers/0/b, layers/0/w"
        ):
            groups.by_path(params, rules, default="rest")


def test_labels_stand_in_any_tree():
    special = {"tuple": "w_h", "dict": "layers/0/w", "state": "layers/1/*"}
    for kind, tree in trees().items():
        labels = groups.by_path(tree, {special[kind]: 1}, default=0)
        assert jax.tree.structure(labels) == jax.tree.structure(tree)
        assert jax.tree.leaves(labels) == [int(fnmatch.fnmatchcase(path, special[kind])) for path in PATHS[kind]]


def alone(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


OPTIMIZERS = {
    "adamw": optax.adamw(0.1, weight_decay=0.5),
    "momentum": optax.sgd(optax.cosine_decay_schedule(0.3, 3), momentum=0.9),
}
GROUPS = {
    "tuple": {"w_h": "frozen", "b": "momentum"},
    "dict": {"embed": "frozen", "*w": "adamw", "*b": "momentum"},
    "state": {"layers/0/*": "frozen", "*bias": "momentum"},
}


@pytest.mark.some(1)
@pytest.mark.parametrize("kind", GROUPS)
def test_each_group_trains_as_if_alone(kind, count_compilations):
    params = trees()[kind]
    kinds = [
        next((g for p, g in GROUPS[kind].items() if fnmatch.fnmatchcase(path, p)), "adamw") for path in PATHS[kind]
    ]
    keys = jax.random.split(jax.random.key(1), 3)
    gradients = [jax.tree.map(lambda w, key=key: jax.random.normal(key, w.shape), params) for key in keys]
    members = {pattern: OPTIMIZERS.get(name) for pattern, name in GROUPS[kind].items()}
    optimizer = groups.per_group(members, default=OPTIMIZERS["adamw"])

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return updates, optax.apply_updates(params, updates), state

    trained, state = params, optimizer.init(params)
    moments = {"adamw": 2, "momentum": 1, "frozen": 0}
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(floats) == sum(moments[name] for name in kinds)
    for i, gradient in enumerate(gradients):
        arguments = trained, state, gradient
        assert count_compilations(lambda arguments=arguments: step(*arguments)) == 0 or i == 0
        updates, trained, state = step(*arguments)
        for name, update in zip(kinds, jax.tree.leaves(updates), strict=True):
            assert name != "frozen" or not np.any(update)

    for name in OPTIMIZERS:
        pick = lambda tree, name=name: [x for x, k in zip(jax.tree.leaves(tree), kinds, strict=True) if k == name]
        for got, want in zip(
            pick(trained), untyped(alone(OPTIMIZERS[name], pick(params), map(pick, gradients))), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    for name, before, after in zip(kinds, jax.tree.leaves(params), jax.tree.leaves(trained), strict=True):
        assert (name == "frozen") == (np.asarray(before).tobytes() == np.asarray(after).tobytes())


def test_in_a_chain_the_norm_counts_frozen_leaves():
    params = {"frozen": jnp.zeros(1), "free": jnp.zeros(1)}
    gradients = {"frozen": jnp.array([4.0]), "free": jnp.array([3.0])}
    members = groups.per_group({"frozen": None}, default=optax.sgd(1.0))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), members)
    updates, _ = untyped(optimizer.update)(gradients, optimizer.init(params), params)
    assert updates["frozen"] == 0
    np.testing.assert_allclose(updates["free"], -0.6, rtol=1e-6)
    inside = groups.per_group({"frozen": None}, default=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)))
    updates, _ = untyped(inside.update)(gradients, inside.init(params), params)
    np.testing.assert_allclose(updates["free"], -1.0, rtol=1e-6)
    updates, _ = untyped(members.update)({**gradients, "frozen": jnp.array([jnp.nan])}, members.init(params), params)
    assert updates == {"frozen": 0, "free": -3}


def test_everything_else_frozen():
    params = trees()["tuple"]
    optimizer = groups.per_group({"b": optax.sgd(1.0)}, default=None)
    updates, _ = untyped(optimizer.update)(params, optimizer.init(params), params)
    assert not np.any(updates.w_x)
    assert not np.any(updates.w_h)
    np.testing.assert_array_equal(updates.b, -params.b)


def test_optax_may_probe_it():
    params = trees()["tuple"]
    optimizer = groups.per_group({"b": optax.adam(1.0)}, default=None)
    state = optax.tree_utils.tree_map_params(optimizer, lambda leaf: leaf + 1, optimizer.init(params))
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape]
    assert len(moments) == 2
    assert all(np.all(leaf == 1) for leaf in moments)


def test_matrices():
    params = trees()["tuple"]._replace(w_c=jnp.zeros((3, 3), jnp.int32))
    assert groups.matrices(params, None) == jaxseq.LstmParams(*untyped((True, True, False, False)))
    assert groups.matrices(params, "w_h") == jaxseq.LstmParams(*untyped((False, True, False, False)))
    assert groups.matrices(params, ["w_h", "w_x"]) == jaxseq.LstmParams(*untyped((True, True, False, False)))


def test_errors():
    params = trees()["tuple"]
    with pytest.raises(TypeError, match=r"`rules` must map patterns .* to labels; got \['w_h'\]"):
        groups.by_path(params, untyped(["w_h"]), default=0)
    with pytest.raises(ValueError, match=r"the pattern 'forward' selects no leaf; .* w_x, w_h, b\. .* whole path"):
        groups.by_path(params, {"forward": 1}, default=0)
    with pytest.raises(ValueError, match=r"the pattern 'w_h' selects no leaf; .* specific patterns before general"):
        groups.by_path(params, {"w_*": 1, "w_h": 2}, default=0)
    with pytest.raises(TypeError, match=r"`groups` must map patterns .* to transformations; got None"):
        groups.per_group(untyped(None), default=None)
    with pytest.raises(TypeError, match=r"the group 'w_h' must be an optax.GradientTransformation, or None.* got 0.1"):
        groups.per_group({"w_h": untyped(0.1)}, default=None)
    with pytest.raises(TypeError, match=r"the group 'default' must be"):
        groups.per_group({}, default=untyped(optax.sgd))
    with pytest.raises(ValueError, match="the pattern 'w' selects no leaf"):
        groups.per_group({"w": None}, default=optax.sgd(1.0)).init(params)
    for where in (3, [], ["w_h", 3]):
        with pytest.raises(TypeError, match="`where` must be a pattern"):
            groups.matrices(params, untyped(where))
    with pytest.raises(ValueError, match=r"`where` must select floating matrices .*; b is float32 \(12,\)"):
        groups.matrices(params, "*")
    with pytest.raises(ValueError, match=r"; layers/0/bias is float32 \(12,\)"):
        groups.matrices(trees()["state"], "layers/*")
