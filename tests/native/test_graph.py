"""The graph of a function of one row, and the order in which it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq.kernels.native import _fuse, _stages
from jaxseq.kernels.native._elementwise import check
from jaxseq.kernels.native._graph import Traced
from jaxseq.kernels.native._nodes import Unsupported, base, reached

N = 12
ROW = jax.ShapeDtypeStruct((N,), jnp.float32)
MOVES = {
    "slice": lambda x: x[2:9],
    "strides": lambda x: x[1::3],
    "halves": lambda x: jnp.concatenate(jnp.split(x, 2)[::-1]),
    "transpose": lambda x: x.reshape(3, 4).T,
    "flip": lambda x: jnp.flip(x),
    "roll": lambda x: jnp.roll(x, 5),
    "broadcast": lambda x: jnp.broadcast_to(x[:, None], (N, 3)),
    "stack": lambda x: jnp.stack([x, x[::-1]], -1),
    "pad": lambda x: jnp.pad(x, (2, 1), constant_values=7),
    "take": lambda x: x[jnp.array([3, 3, 0, 11])],
    "put": lambda x: x.at[jnp.array([1, 4])].set(x[:2]),
    "repeat": lambda x: jnp.repeat(x, 2),
    "squeeze": lambda x: jnp.squeeze(x[None, :, None]),
    "axes of one": lambda x: x[:, None] + x[None, :3],
    "take back": lambda x: jax.vjp(lambda z: z[jnp.array([5, 2])], x)[1](x[:2])[0],
}


def traced(function, *rows, params=()):
    rows = rows or (ROW,)
    return Traced(lambda params, *rows: function(*params, *rows), params, rows, [False] * len(params))


def moved(node, value):
    """The numbers of a node of moves and additions, by its index maps."""
    match node.op:
        case "leaf":
            return value.ravel()
        case "const":
            return node.value
        case "view":
            return moved(node.args[0], value)
        case "add":
            return sum(moved(arg, value) for arg in node.args)
    args = [moved(arg, value) for arg in node.args]
    pairs = zip(node.facts["which"], node.facts["at"], strict=True)
    return np.array([args[which][at] for which, at in pairs])


@pytest.mark.parametrize("name", MOVES)
def test_an_index_map_is_what_jax_does(name):
    value = np.random.default_rng(0).normal(size=N).astype(np.float32)
    (node,) = traced(MOVES[name]).results
    want = np.asarray(MOVES[name](jnp.asarray(value)))
    assert node.shape == want.shape
    np.testing.assert_array_equal(moved(node, value), want.ravel())


@pytest.mark.parametrize(
    "function", [lambda x: x.reshape(3, 4).ravel(), lambda x: x[None, :, None] * 1], ids=["a", "b"]
)
def test_all_in_order_is_no_move(function):
    (node,) = traced(lambda x: function(x).ravel()).results
    assert not [inner for inner in reached([node]) if inner.op == "move"]


def test_products_that_are_added_are_one():
    weights = [jax.ShapeDtypeStruct((N, 5), jnp.float32)] * 2 + [jax.ShapeDtypeStruct((5,), jnp.float32)]

    def function(w_x, w_h, b, x, h):
        return jnp.tanh(x @ w_x + b + h @ w_h)

    graph = traced(function, ROW, ROW, params=tuple(weights))
    assert len([node for node in reached(graph.results) if node.op == "product"]) == 2
    _fuse.fuse_products(graph.results)
    (product,) = [node for node in reached(graph.results) if node.op == "product"]
    assert len(product.args) == 4


def test_what_is_used_elsewhere_is_not_fused():
    weight = jax.ShapeDtypeStruct((N, N), jnp.float32)

    def function(w, x, h):
        p = x @ w
        return p + h @ w, p

    graph = traced(function, ROW, ROW, params=(weight,))
    _fuse.fuse_products(graph.results)
    assert len([node for node in reached(graph.results) if node.op == "product"]) == 2


def test_a_barrier_is_between_what_it_needs_and_what_needs_it():
    def share(x):
        x = jnp.exp(x)
        return x / jnp.sum(x)

    graph = traced(share)
    stages = _stages.order(graph.results).stages
    assert [len(stage.barriers) for stage in stages] == [0, 1]
    assert [group.n for stage in stages for group in stage.groups] == [N, N]


def test_gates_are_one_loop():
    """All roots of an LSTM's step, though its gates are slices of one product."""
    cell = jaxseq.lstm(8)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3))
    carry = jax.eval_shape(cell.carry, params)
    u = jax.ShapeDtypeStruct((32,), jnp.float32)
    flags = [False] * len(jax.tree.leaves(params))
    graph = Traced(cell.step, params, (carry, u), flags)
    *_, last = _stages.order(graph.results).stages
    (group,) = last.groups
    assert group.n == 8


def test_a_move_that_scatters_is_a_table():
    row = jax.ShapeDtypeStruct((60,), jnp.float32)
    graph = traced(lambda x: jnp.tanh(x.reshape(3, 20).T.ravel()) + x, row)
    order = _stages.order(graph.results)
    assert [node.op for node in order.tables] == ["move"]
    assert base(graph.results[0]).op == "add"


def test_what_is_costly_and_alike_is_computed_once():
    graph = traced(lambda x: x * jnp.exp(x[:1]))
    groups = [group for stage in _stages.order(graph.results).stages for group in stage.groups]
    assert [group.n for group in groups] == [1, N]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: x[jnp.argmax(x)], "computed"),
        (lambda x: jnp.cumsum(x), "cumsum"),
    ],
)
def test_the_reason_is_told(function, reason):
    def check_all():
        for node in reached(traced(function).results):
            check(node)

    with pytest.raises(Unsupported, match=reason):
        check_all()
