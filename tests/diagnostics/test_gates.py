from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import Backward, diagnostics
from tests import zoo

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 4, 3, 2, 4


def sigma(a):
    return 1 / (1 + np.exp(-a))


def rnn_gates(p, carry, x):
    a = x @ p["w_x"] + p["b"] + carry @ p["w_h"]
    return {"h": carry, "y": np.sin(a), "a": a}


def lstm_gates(p, carry, x):
    i, f, g, o = np.split(x @ p["w_x"] + p["b"] + carry.h @ p["w_h"], 4, axis=-1)
    i, f = sigma(i + p["w_c"][0] * carry.c), sigma(f + p["w_c"][1] * carry.c)
    c = f * carry.c + i * np.tanh(g)
    o = sigma(o + p["w_c"][2] * c)
    return {"h": carry.h, "c": carry.c, "i": i, "f": f, "g": np.tanh(g), "o": o, "tanh_c": np.tanh(c)}


def gru_gates(p, carry, x):
    u_r, u_z, u_n = np.split(x @ p["w_x"] + p["b"], 3, axis=-1)
    w_r, w_z, w_n = np.split(p["w_h"], 3, axis=-1)
    r, z, m = sigma(u_r + carry @ w_r), sigma(u_z + carry @ w_z), carry @ w_n + p["b_hn"]
    return {"h": carry, "r": r, "z": z, "n": np.tanh(u_n + r * m), "m": m}


GATES = {
    "rnn": (jaxseq.rnn(H, activation=jnp.sin), rnn_gates),
    "lstm": (jaxseq.lstm(H, peephole="new"), lstm_gates),
    "gru": (jaxseq.gru(H), gru_gates),
}


def numbers_like(tree, seed):
    """As `zoo.random_like`, but NumPy arrays."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(leaf.dtype), tree)


def made(net, seed=0):
    params = numbers_like(jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0)), seed)
    xs = np.random.default_rng(seed + 1).normal(size=(T, B, D))
    return params, xs, numbers_like(jax.eval_shape(lambda params: net.carry(params, (B,)), params), seed + 2)


def flags(seed=5):
    generator = np.random.default_rng(seed)
    return generator.random((T, B)) < 0.7, generator.random((T, B)) < 0.3


@pytest.mark.parametrize(("name", "reverse"), [("rnn", False), ("lstm", True), ("gru", False)])
def test_traces_are_the_gates_of_the_equations(name, reverse):
    cell, gates = GATES[name]
    params, xs, carry = made(cell)
    mask, reset = flags()
    got = diagnostics.gate_traces(cell, params, xs, carry, mask=mask, reset=reset, reverse=reverse)
    start = jax.tree.map(np.asarray, jax.jit(cell.carry)(params))
    step = jax.jit(lambda carry, x: jaxseq.step(cell, params, carry, x)[0])
    p = {part: np.asarray(value) for part, value in params._asdict().items() if value is not None}
    want = {trace: np.zeros((T, B, H)) for trace in got}
    for b in range(B):
        row = jax.tree.map(lambda leaf, b=b: leaf[b], carry)
        for t in reversed(range(T)) if reverse else range(T):
            border = t + 1 if reverse else t
            if border < T and reset[border, b]:
                row = start
            if mask[t, b]:
                for trace, value in gates(p, row, xs[t, b]).items():
                    want[trace][t, b] = value
                row = jax.tree.map(np.asarray, step(row, xs[t, b]))
    zoo.assert_close(got, want, 1e-12)


def test_without_flags_the_h_that_enters_is_the_output_before():
    """Wrappers on the carry keep what the cell inside saves; noise is that of `unroll` with the key."""
    cell = jaxseq.zoneout(jaxseq.dropout(jaxseq.lstm(H), recurrent=0.3), c=0.4)
    params, xs, carry = made(cell)
    key = jax.random.key(2)

    @jax.jit
    def run(key):
        traces = diagnostics.gate_traces(cell, params, xs, carry, key=key)
        return traces, jaxseq.unroll(cell, params, xs, carry, key=key)[1]

    traces, ys = jax.tree.map(np.asarray, run(key))
    dropped = np.concatenate([carry.h[None], ys[:-1]])
    kept = np.asarray(traces["h"]) != 0
    np.testing.assert_allclose(traces["h"], np.where(kept, dropped / 0.7, 0), rtol=1e-12)
    assert 0 < kept.mean() < 1
    a = np.split(np.asarray(xs @ params.w_x + params.b + traces["h"] @ params.w_h), 4, axis=-1)
    for name, value in zip("ifgo", a, strict=True):
        want = np.tanh(value) if name == "g" else sigma(value)
        np.testing.assert_allclose(traces[name], want, rtol=1e-12, atol=1e-14, err_msg=name)


def test_in_a_composite_each_cell_has_its_place():
    lower, upper = jaxseq.gru(H), jaxseq.lstm(H)
    net = jaxseq.stack(jaxseq.bidirectional(lower), upper)
    params, xs, carry = made(net)
    mask, reset = flags()
    both, top = diagnostics.gate_traces(net, params, xs, carry, mask=mask, reset=reset)
    assert isinstance(both, jaxseq.Bidirectional)
    arguments: dict[str, Any] = {"mask": mask, "reset": reset}
    _, ys = jaxseq.unroll(jaxseq.bidirectional(lower), params[0], xs, carry[0], **arguments)
    ahead = diagnostics.gate_traces(lower, params[0].forward, xs, carry[0].forward, **arguments)
    back = diagnostics.gate_traces(lower, params[0].backward, xs, carry[0].backward, reverse=True, **arguments)
    zoo.assert_close(both.forward, ahead, 0)
    zoo.assert_close(both.backward, back, 0)
    zoo.assert_close(top, diagnostics.gate_traces(upper, params[1], ys, carry[1], **arguments), 1e-12)


def saving(save):
    """An RNN whose `fwd` saves what `save` makes of its gate."""

    class Own(NamedTuple):
        gate: jax.Array

    cell = jaxseq.rnn(H)
    backward = cell.backward
    assert backward is not None
    saved = {"tuple": lambda y: (y, y), "array": lambda y: y, "dict": lambda y: {"gate": y, "none": None}, "own": Own}

    def fwd(params, carry, u):
        carry, y = cell.step(params, carry, u)
        return carry, y, saved[save](y)

    return cell._replace(backward=Backward(fwd, backward.bwd, backward.collect))


@pytest.mark.parametrize("save", ["dict", "own"])
def test_a_cell_of_ones_own_names_what_it_saves(save):
    cell = saving(save)
    params, xs, carry = made(cell)
    traces = diagnostics.gate_traces(cell, params, xs, carry)
    assert list(traces) == ["gate"]
    np.testing.assert_allclose(traces["gate"], jaxseq.unroll(cell, params, xs, carry)[1], rtol=1e-13)


@pytest.mark.parametrize("save", ["tuple", "array"])
def test_names_are_needed(save):
    cell = saving(save)
    params, xs, _ = made(cell)
    with pytest.raises(ValueError, match="let the `fwd` of its `backward` return a NamedTuple or a dict"):
        diagnostics.gate_traces(cell, params, xs)


def test_a_backward_is_needed():
    net = jaxseq.stack(jaxseq.gru(H), zoo.own_lstm(H))
    params, xs, _ = made(net)
    with pytest.raises(ValueError, match="`cell` has no hand-written `backward`"):
        diagnostics.gate_traces(net, params, xs)


def test_arguments_are_checked_as_by_unroll():
    cell = jaxseq.gru(H)
    params, xs, _ = made(cell)
    with pytest.raises(ValueError, match="`mask` must be bool"):
        diagnostics.gate_traces(cell, params, xs, mask=np.ones((B, T), bool))


def test_under_jit_and_without_compiling_twice(count_compilations):
    net = jaxseq.stack(jaxseq.lstm(H), jaxseq.gru(H))
    params, xs, _ = made(net)
    mask, _ = flags()

    def traces(xs):
        return diagnostics.gate_traces(net, params, xs, mask=mask)

    zoo.assert_close(jax.jit(traces)(xs), traces(xs), 1e-12)
    assert count_compilations(lambda: traces(xs)) == 0


def test_plot_draws_units_over_steps(plt):
    generator = np.random.default_rng(0)
    gates = {"f": jnp.asarray(generator.random((7, 3))), "g": jnp.asarray(generator.normal(size=(7, 3)))}
    f, g = diagnostics.plot_gates(gates)
    np.testing.assert_array_equal(f.images[0].get_array(), gates["f"].T)
    np.testing.assert_array_equal(g.images[0].get_array(), gates["g"].T)
    assert f.images[0].get_clim() == (0, 1)
    largest = float(jnp.max(jnp.abs(gates["g"])))
    assert g.images[0].get_clim() == (-largest, largest)
    assert [ax.get_title(loc="left") for ax in (f, g)] == ["f", "g"]
    f.figure.canvas.draw()


def test_plot_takes_axes(plt):
    _, axes = plt.subplots(2)
    assert diagnostics.plot_gates({"i": jnp.zeros((4, 3)), "c": -jnp.ones((4, 3))}, axes=axes) == list(axes)
    with pytest.raises(ValueError, match="`axes` must hold one axes for each of the 1 gates; got 2"):
        diagnostics.plot_gates({"i": jnp.ones((4, 3))}, axes=axes)
    with pytest.raises(ValueError, match=r"`gates\['i'\]` must be \[T, H\], one row of the batch; got \(4, 2, 3\)"):
        diagnostics.plot_gates({"i": jnp.ones((4, 2, 3))})


def test_traces_of_images_are_flat():
    """A ConvLSTM's gates are as its outputs, `[T, B, H]`, and h is their product."""
    cell = jaxseq.conv_lstm((2,), 2)
    xs = np.random.default_rng(1).normal(size=(T, B, 2))

    @jax.jit
    def run(key):
        params = cell.init(key, 2)
        return diagnostics.gate_traces(cell, params, xs), jaxseq.unroll(cell, params, xs)[1]

    traces, ys = jax.tree.map(np.asarray, run(jax.random.key(0)))
    np.testing.assert_allclose(traces["o"] * traces["tanh_c"], ys, rtol=1e-12)
    assert diagnostics.saturation(traces["f"]).left.shape == (4,)


def test_plot_leaves_what_is_nan_grey(plt):
    gate = np.array([[0.2, 0.9], [np.nan, np.nan]])
    for values, limits in ((gate, (0, 1)), (-2 * gate, (-1.8, 1.8))):
        (ax,) = diagnostics.plot_gates({"f": values})
        assert ax.images[0].get_clim() == limits
        drawn = ax.images[0].get_array()
        assert drawn is not None
        assert np.ma.getmaskarray(drawn).tolist() == [[False, True], [False, True]]
