"""docs/equations.md: every form against the oracle, values and all gradients, and what the page says of training."""

import doctest
import functools
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxseq
from jaxseq import initializers
from jaxseq.typing import AnyArray
from tests import reference, zoo

PAGE = (Path(__file__).parents[1] / "docs" / "equations.md").read_text(encoding="utf-8")
T, B, D, H, K = 5, 2, 3, 4, 3
TOLERANCE = 1e-10


def definitions(text):
    """The functions that a page's doctests define, so that its own cells are the ones tested here."""
    names = {"jax": jax, "jnp": jnp, "jaxseq": jaxseq}
    for example in doctest.DocTestParser().get_examples(text):
        if example.source.startswith(("def ", "import ")):
            exec(example.source, names)
    return SimpleNamespace(**names)


page = definitions(PAGE)


class Layer(NamedTuple):
    """The cell that the page names, and its equations."""

    cell: jaxseq.Cell
    form: reference.Form


class Row(NamedTuple):
    """Layers from the lowest up, and what reads the highest: None stands for random cotangents."""

    layers: list[Layer]
    readout: str | None = None


def row(cell, form, readout=None):
    return Row([Layer(cell, form)], readout)


sigmoid_unit = Layer(jaxseq.rnn(1, activation=jax.nn.sigmoid), reference.rnn(reference.sigmoid))
sigmoid_cell = jaxseq.rnn(H, activation=jax.nn.sigmoid)

ROWS = {
    "R1": row(jaxseq.rnn(H), reference.rnn(), "softmax"),
    "R1 any f": row(jaxseq.rnn(H, activation=jnp.sin), reference.rnn(reference.sine), "softmax"),
    "R2": row(jaxseq.rnn(H), reference.rnn(), "linear"),
    "R3 sigmoid": row(sigmoid_cell, reference.rnn(reference.sigmoid), "sigmoid"),
    "R3 softmax": row(sigmoid_cell, reference.rnn(reference.sigmoid), "softmax"),
    "R4": Row([sigmoid_unit, sigmoid_unit], "sigmoid"),
    "L1": row(jaxseq.lstm(H, candidate=jax.nn.sigmoid), reference.lstm(candidate=reference.sigmoid)),
    "L2": row(jaxseq.lstm(H), reference.lstm()),
    "L3 new": row(jaxseq.lstm(H, peephole="new"), reference.lstm("new")),
    "L3 old": row(jaxseq.lstm(H, peephole="old"), reference.lstm("old")),
    "L3 matrices": row(page.lstm_matrix_peepholes(H), reference.lstm_matrix_peepholes()),
    "L4": row(page.lstm_gated_by_memory(H), reference.lstm_output_gate_sees_memory()),
    "G1": row(
        jaxseq.gru(H, reset_after=False, update_writes=True, candidate=jax.nn.sigmoid),
        reference.gru(False, True, reference.sigmoid),
    ),
    "G2": row(jaxseq.gru(H, reset_after=False, update_writes=True), reference.gru(False, True)),
    "G3": row(
        jaxseq.gru(H, reset_after=False, candidate=page.tanh_twice), reference.gru(False, False, reference.tanh_tanh)
    ),
    "G3 as meant": row(jaxseq.gru(H, reset_after=False), reference.gru(False, False)),
}
LINEAR = {
    "D1": "lru",
    "D2": "s5",
    "D3": "min_gru",
    "D4": "min_lstm",
    "D5": "rg_lru",
    "D6": "mamba",
    "M1": "mamba2",
    "M2": "gla",
    "M3": "gated_delta_net",
    "M3 DeltaNet": "delta_net_negative",
    "M4": "mlstm",
}
ROWS |= {name: row(zoo.CELLS[cell].cell, zoo.CELLS[cell].form) for name, cell in LINEAR.items()}


class Link(NamedTuple):
    """A readout's output function and its loss, whose gradient is left to JAX, beside the oracle's."""

    f: Callable
    loss: Callable
    oracle: reference.Readout


LINKS = {
    "softmax": Link(jax.nn.softmax, lambda y, target: -jnp.sum(target * jnp.log(y)), reference.softmax_readout()),
    "sigmoid": Link(
        jax.nn.sigmoid,
        lambda y, target: -jnp.sum(target * jnp.log(y) + (1 - target) * jnp.log(1 - y)),
        reference.sigmoid_readout(),
    ),
    "linear": Link(lambda s: s, lambda y, target: jnp.sum((y - target) ** 2) / 2, reference.linear_readout()),
}


class Given(NamedTuple):
    params: list
    carries: list
    readout: dict
    xs: AnyArray


class Asked(NamedTuple):
    """What the loss asks for: targets of the readout, and cotangents of the last carries and, without one, of ys."""

    targets: np.ndarray
    d_carries: list
    d_ys: np.ndarray


def make_problem(row, seed=0):
    params, carries, in_size = [], [], D
    for place, (cell, _) in enumerate(row.layers):
        shapes = jax.eval_shape(lambda cell=cell, in_size=in_size: cell.init(jax.random.key(0), in_size))
        params.append(zoo.random_like(shapes, seed + place))
        shapes = jax.eval_shape(lambda cell=cell: cell.carry(params[-1], (B,)))
        carries.append(zoo.random_like(shapes, seed + 10 + place))
        in_size = cell.size
    rng = np.random.default_rng(seed + 20)
    readout = {"w_y": jnp.asarray(rng.normal(size=(in_size, K))), "b_y": jnp.asarray(rng.normal(size=K))}
    targets = np.eye(K)[rng.integers(K, size=(T, B))]
    given = Given(params, carries, readout, jnp.asarray(rng.normal(size=(T, B, D))))
    return given, Asked(targets, zoo.random_like(carries, seed + 21), rng.normal(size=(T, B, in_size)))


def run(row, given, asked):
    """The calls under test: returns (loss, (last carries, ys, predictions)) and the loss's gradient by `given`."""

    def loss(given):
        last, ys = [], given.xs
        for (cell, _), params, carry in zip(row.layers, given.params, given.carries, strict=True):
            carry, ys = jaxseq.unroll(cell, params, ys, carry)
            last.append(carry)
        total = sum(map(paired, jax.tree.leaves(last), jax.tree.leaves(asked.d_carries)))
        if row.readout is None:
            return total + jnp.vdot(ys, asked.d_ys), (last, ys, None)
        link = LINKS[row.readout]
        predictions = link.f(ys @ given.readout["w_y"] + given.readout["b_y"])
        return total + link.loss(predictions, asked.targets), (last, ys, predictions)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(given)


def run_oracle(row, given, asked):
    """The same by tests/reference.py."""
    params = [zoo.as_reference(p) for p in given.params]
    carries, d_carries = ([as_tuple(carry) for carry in tree] for tree in (given.carries, asked.d_carries))
    inputs, last = [np.asarray(given.xs)], []
    for (_, form), p, carry in zip(row.layers, params, carries, strict=True):
        result = reference.unroll(form, p, inputs[-1], carry)
        last.append(result.carry)
        inputs.append(result.ys)
    ys = inputs.pop()
    total = sum(map(paired, jax.tree.leaves(last), jax.tree.leaves(d_carries)))

    dense: Any = zoo.as_reference(given.readout)
    d_dense = {name: np.zeros_like(value) for name, value in dense.items()}
    predictions, d_ys = None, asked.d_ys
    if row.readout is None:
        total += np.vdot(ys, d_ys)
    else:
        oracle = LINKS[row.readout].oracle
        predictions, d_ys = np.zeros((T, B, K)), np.zeros_like(ys)
        for t, b in np.ndindex(T, B):
            y = predictions[t, b] = oracle.predict(dense, ys[t, b])
            total += oracle.loss(y, asked.targets[t, b])
            d_p, d_ys[t, b] = oracle.back(dense, ys[t, b], y, asked.targets[t, b])
            for name in d_p:
                d_dense[name] += d_p[name]

    d_params, d_first = [], []
    for (_, form), p, xs, carry, d_last in reversed(
        list(zip(row.layers, params, inputs, carries, d_carries, strict=True))
    ):
        gradients = reference.bptt(form, p, xs, carry, d_last, d_ys)
        d_params.insert(0, gradients.params)
        d_first.insert(0, gradients.carry)
        d_ys = gradients.xs
    return (total, (last, ys, predictions)), Given(d_params, d_first, d_dense, d_ys)


def paired(leaf, d):
    """What a cotangent makes of a leaf, which may be complex: Re Σ d ⊙ leaf, as in JAX."""
    return (leaf * d).sum().real


def as_tuple(carry):
    return tuple(map(np.asarray, jax.tree.leaves(carry)))


@pytest.mark.some(9)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients_are_the_oracles(name):
    row = ROWS[name]
    given, asked = make_problem(row)
    (total, values), gradients = run(row, given, asked)
    (want_total, want_values), want = run_oracle(row, given, asked)
    zoo.assert_close((total, values), (want_total, want_values), TOLERANCE, "loss, (carries, ys, predictions)")
    for place, (got_params, want_params) in enumerate(zip(gradients.params, want.params, strict=True)):
        zoo.assert_close(zoo.as_reference(got_params), want_params, TOLERANCE, f"d_params of layer {place}")
    zoo.assert_close(gradients.carries, want.carries, TOLERANCE, "d_carries")
    zoo.assert_close(gradients.readout, want.readout, TOLERANCE, "d_readout")
    zoo.assert_close(gradients.xs, want.xs, TOLERANCE, "d_xs")


def test_every_form_of_the_page_has_a_row_and_every_row_a_heading():
    headings = re.findall(r"^#+ ([A-Z]\d+)\b", PAGE, flags=re.MULTILINE)
    assert headings == list(dict.fromkeys(name.split()[0] for name in ROWS))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gates", ["ifgo", "rzn"])
def test_the_textbooks_matrix_is_our_weights_by_blocks(gates):
    rng = np.random.default_rng(0)
    W = {gate: rng.normal(size=(H, H + D)) for gate in gates}
    b = {gate: rng.normal(size=H) for gate in gates}
    h, c, x = rng.normal(size=H), rng.normal(size=H), rng.normal(size=D)
    weights = {
        "w_x": np.concatenate([W[gate][:, H:].T for gate in gates], axis=1),
        "w_h": np.concatenate([W[gate][:, :H].T for gate in gates], axis=1),
        "b": np.concatenate([b[gate] for gate in gates]),
    }

    def affine(gate, h):
        return W[gate] @ np.concatenate([h, x]) + b[gate]

    if gates == "ifgo":
        i, f, o = (reference.sigma(affine(gate, h)) for gate in "ifo")
        c_new = f * c + i * np.tanh(affine("g", h))
        want = (o * np.tanh(c_new), c_new)
        cell, params, carry = jaxseq.lstm(H), jaxseq.LstmParams(**weights), jaxseq.LstmCarry(h, c)
    else:
        r, z = (reference.sigma(affine(gate, h)) for gate in "rz")
        want = (1 - z) * h + z * np.tanh(affine("n", r * h))
        cell = jaxseq.gru(H, reset_after=False, update_writes=True)
        params, carry = jaxseq.GruParams(**weights), h
    got, _ = jax.jit(functools.partial(jaxseq.step, cell))(params, carry, x)
    zoo.assert_close(got, want, 1e-13)


@pytest.mark.some(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("T", [2, 1])
def test_r4_reaches_its_ceiling_of_four_in_five_and_never_more(T):
    examples = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1]], float)
    labels = np.array([0, 0, 1, 1, 0], float)
    inputs, example = np.unique(examples, axis=0, return_inverse=True)
    scores = [
        np.mean(np.array(rule)[example.ravel()] == labels) for rule in itertools.product([0, 1], repeat=len(inputs))
    ]
    assert max(scores) == 0.8

    xs = jnp.asarray(examples.T[..., None] if T == 2 else examples[None])  # T steps of 2 / T features
    unit, keys = sigmoid_unit.cell, jax.random.split(jax.random.key(0))
    adam = optax.adam(0.05)

    def loss(weights):
        _, ys = jaxseq.unroll(unit, weights["lower"], xs)
        _, ys = jaxseq.unroll(unit, weights["upper"], ys)
        logits = ys[-1, :, 0] * weights["w_o"] + weights["b_o"]
        return optax.sigmoid_binary_cross_entropy(logits, labels).sum(), jnp.mean((logits > 0) == labels)

    def start():
        lower, upper = unit.init(keys[0], xs.shape[-1]), unit.init(keys[1], 1)
        weights = {"lower": lower, "upper": upper, "w_o": jnp.ones(()), "b_o": jnp.zeros(())}
        return weights, adam.init(weights)

    def train(training, _):
        weights, state = training
        (value, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
        updates, state = adam.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), (value, accuracy)

    _, (losses, accuracies) = jax.jit(lambda: jax.lax.scan(train, start(), length=1000))()
    losses, accuracies = np.asarray(losses), np.asarray(accuracies)
    assert accuracies[0] < 0.8
    assert accuracies.max() == accuracies[-1] == 0.8
    assert losses[-1] < 2
    assert losses.min() > 2 * math.log(2)  # one input, two labels: at best one half for each


def bptt_of_some_textbooks(p, dense, xs, carry, targets, with_what_comes_back):
    """Gradients of half the squared error of a sigmoid cell and readout, as printed or with the missing term."""
    d_p = {name: np.zeros_like(value) for name, value in p.items()}
    for b in range(xs.shape[1]):
        hs = [carry[b]]
        for x in xs[:, b]:
            hs.append(reference.sigma(x @ p["w_x"] + hs[-1] @ p["w_h"] + p["b"]))
        d_a = np.zeros(H)
        for t in reversed(range(len(xs))):
            y = reference.sigma(hs[t + 1] @ dense["w_y"] + dense["b_y"])
            d_s = (y - targets[t, b]) * y * (1 - y)
            d_h = dense["w_y"] @ d_s + (p["w_h"] @ d_a if with_what_comes_back else 0)
            d_a = d_h * hs[t + 1] * (1 - hs[t + 1])
            for name, d in (("w_x", np.outer(xs[t, b], d_a)), ("w_h", np.outer(hs[t], d_a)), ("b", d_a)):
                d_p[name] += d
    return d_p


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [1, 2, T])
def test_bptt_as_printed_lacks_what_comes_back(steps):
    given, asked = make_problem(ROWS["R3 sigmoid"])
    xs, targets, params, carry = np.asarray(given.xs)[:steps], asked.targets[:steps], given.params[0], given.carries[0]

    def gradient(cell):
        def loss(params):
            _, ys = jaxseq.unroll(cell, params, xs, carry)
            outputs = jax.nn.sigmoid(ys @ given.readout["w_y"] + given.readout["b_y"])
            return jnp.sum((outputs - targets) ** 2) / 2

        return zoo.as_reference(jax.jit(jax.grad(loss))(params))

    numbers = (zoo.as_reference(params), zoo.as_reference(given.readout), np.asarray(xs), np.asarray(carry), targets)
    printed, correct = (bptt_of_some_textbooks(*numbers, flag) for flag in (False, True))
    zoo.assert_close(gradient(sigmoid_cell), correct, TOLERANCE, "correct")
    zoo.assert_close(gradient(page.cut(sigmoid_cell)), printed, TOLERANCE, "printed")
    for name in correct:
        if steps == 1:
            np.testing.assert_array_equal(printed[name], correct[name])
        else:
            assert np.linalg.norm(printed[name] - correct[name]) > 0.01 * np.linalg.norm(correct[name]), name


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("threshold", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("length", [0.05, 0.5, 1.5, 5.0])
def test_clipping_as_printed_lacks_the_threshold(length, threshold):
    g = np.random.default_rng(0).normal(size=7)
    g = jnp.asarray(g * length / np.linalg.norm(g))
    printed, clipped = np.asarray(page.clip_as_printed(g, threshold)), page.clip(g, threshold)
    zoo.assert_close(clipped, np.asarray(g) * min(1, threshold / length), 1e-14)
    zoo.assert_close(threshold * printed, clipped, 1e-14)
    zoo.assert_close(np.linalg.norm(printed), 1.0 if length > threshold else length / threshold, 1e-14)
    if length < threshold:
        zoo.assert_close(clipped, g, 0)
    if length < threshold < 1:
        assert np.linalg.norm(printed) > 1.9 * length


@pytest.mark.usefixtures("x64")
def test_momentum_with_bias_correction_is_optaxs():
    beta, m = 0.9, np.zeros(3)
    corrected, plain = optax.ema(beta, debias=True), optax.ema(beta, debias=False)
    adam, trace = optax.scale_by_adam(b1=beta), optax.trace(beta)
    optimizers = corrected, plain, adam, trace
    states = [each.init(np.zeros(3)) for each in optimizers]
    update_all = jax.jit(
        lambda g, states: [each.update(g, state) for each, state in zip(optimizers, states, strict=True)]
    )
    for t, g in enumerate(np.random.default_rng(0).normal(size=(6, 3)), start=1):
        m = beta * m + (1 - beta) * g
        updates, states = zip(*update_all(g, states), strict=True)
        zoo.assert_close(updates[0], m / (1 - beta**t), 1e-12, "m̂")
        zoo.assert_close(updates[1], m, 1e-12, "m")
        zoo.assert_close(states[2].mu, m, 1e-12, "Adam's first moment")
        zoo.assert_close(updates[3], m / (1 - beta), 1e-12, "the momentum of optax.sgd")
        if t == 1:
            zoo.assert_close(updates[0], g, 1e-12, "first step")


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("draw", "bounds"),
    [
        (initializers.scaled_normal(64**-0.25), (1e40, 1e50)),
        (initializers.scaled_normal(64**-0.5), (1e-4, 1e4)),
        (initializers.scaled_normal(1 / 64), (1e-95, 1e-80)),
        (initializers.orthogonal(), (1 - 1e-12, 1 + 1e-12)),
    ],
    ids=["variance 1/√H", "deviation 1/√H", "deviation 1/H", "orthogonal"],
)
def test_initialisation_and_the_gradient_of_a_hundred_linear_steps(draw, bounds):
    length = page.gradient_length(draw)
    with jax.enable_x64(True):
        w_h = np.asarray(draw(jax.random.key(1), (64, 64)))
    want = np.linalg.norm(np.linalg.matrix_power(w_h, 100) @ np.full(64, 1 / 8))
    np.testing.assert_allclose(length, want, rtol=1e-9)
    assert bounds[0] < length < bounds[1]


@pytest.mark.usefixtures("x64")
def test_initialisation_and_the_gradient_of_a_hundred_tanh_steps():
    cell, xs = jaxseq.rnn(64), jax.random.normal(jax.random.key(0), (100, 1))
    params = cell.init(jax.random.key(1), 1)

    @jax.jit
    def length(deviation, key):
        w_h = deviation * initializers.scaled_normal(1.0)(key, (64, 64))

        def loss(h):
            return jaxseq.unroll(cell, params._replace(w_h=w_h), xs, h)[0].sum() / 8

        return jnp.linalg.norm(jax.grad(loss)(jnp.zeros(64)))

    for seed in range(5):
        explodes, shrinks, vanishes = (length(64**power, jax.random.key(seed)) for power in (-0.25, -0.5, -1.0))
        assert explodes > 1e6
        assert 1e-10 < shrinks < 0.1
        assert 0 < vanishes < 1e-80


def test_a_sigmoid_in_a_sigmoid_leaves_a_sixteenth_of_the_gradient():
    def one_line_lstm(C, h, i, f, g, o):
        sigma = jax.nn.sigmoid
        return sigma(f * sigma(i * sigma(g) * C + sigma(o) * f * h))

    arguments = np.random.default_rng(0).uniform(-1, 1, (6, 10_000)).astype(np.float32)
    assert np.abs(jax.jit(jax.vmap(jax.grad(one_line_lstm)))(*arguments)).max() <= 1 / 16


@pytest.mark.usefixtures("x64")
def test_worked_numbers():
    e = math.e
    np.testing.assert_allclose(jnp.tanh(1.0), (e**2 - 1) / (e**2 + 1), rtol=1e-15)
    np.testing.assert_allclose(1 - jnp.tanh(1.0), 2 / (e**2 + 1), rtol=1e-14)
    assert round(2 / (e**2 + 1), 4) == 0.2384
    assert round(float(jax.nn.sigmoid(0.1 * 0.7 - 2)), 3) == 0.127

    start = jaxseq.LstmCarry(h=np.array([0.1, 0.2, 0.3]), c=np.array([0.4, 0.5, 0.6]))
    params = jaxseq.LstmParams(w_x=np.zeros((1, 12)), w_h=np.tile(0.7 * np.eye(3), 4), b=np.full(12, -2.0))
    carry, y = jax.tree.map(np.asarray, jaxseq.step(jaxseq.lstm(3), params, start, np.zeros(1)))
    want, _, _ = reference.lstm().step(zoo.as_reference(params), as_tuple(start), np.zeros(1))
    zoo.assert_close((carry, y), (want, want[0]), 1e-14)
    gate = 1 / (1 + e**1.93)
    np.testing.assert_allclose(carry.c[0], gate * 0.4 + gate * math.tanh(-1.93), rtol=1e-13)
    np.testing.assert_allclose(carry.h[0], gate * math.tanh(float(carry.c[0])), rtol=1e-13)
