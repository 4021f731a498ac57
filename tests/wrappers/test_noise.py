"""Dropout and zoneout under a key: the same key gives the same numbers, and means are those of theory.

Sampling errors are held to five standard errors of the mean, over keys that are fixed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import dropout, kernels, zoneout
from tests import zoo
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 6, 3, 4, 4
RATE = 0.3
GRU, LSTM = jaxseq.gru(H), jaxseq.lstm(H)


def identity(a):
    return a


LINEAR = jaxseq.rnn(H, activation=identity)

NETS = {
    "inputs": dropout(GRU, inputs=RATE),
    "outputs_per_step": dropout(LSTM, outputs=RATE, per_step=True),
    "recurrent": dropout(LSTM, recurrent=RATE),
    "recurrent_per_step": dropout(GRU, recurrent=RATE, per_step=True),
    "recurrent_gru": dropout(GRU, recurrent=RATE),
    "recurrent_gru_before": dropout(jaxseq.gru(H, reset_after=False), recurrent=RATE),
    "recurrent_layer_norm_gru": dropout(jaxseq.layer_norm_gru(H), recurrent=RATE),
    "zoneout": zoneout(LSTM, h=RATE, c=0.5),
    "zoneout_c": zoneout(LSTM, c=0.5),
    "zoneout_gru": zoneout(GRU, h=RATE),
    "zoneout_slstm": zoneout(jaxseq.slstm(H), h=RATE),
    "dropout_of_zoneout": dropout(zoneout(GRU, h=RATE), recurrent=RATE),
    "dropout_of_zoneout_lstm": dropout(zoneout(LSTM, h=RATE, c=RATE), recurrent=RATE),
    "dropout_of_zoneout_twice": dropout(
        zoneout(dropout(zoneout(LSTM, h=RATE), recurrent=RATE), c=RATE), recurrent=RATE
    ),
    "zoneout_of_dropout": zoneout(dropout(GRU, recurrent=RATE), h=RATE),
    "dropout_twice": dropout(dropout(GRU, recurrent=RATE), recurrent=RATE, per_step=True),
    "learned": jaxseq.learned_carry(dropout(zoneout(LSTM, c=0.5), recurrent=RATE)),
    "deep": jaxseq.stack(
        dropout(GRU, inputs=RATE, recurrent=RATE),
        jaxseq.bidirectional(jaxseq.residual(zoneout(dropout(LSTM, recurrent=RATE), h=RATE, c=RATE))),
        dropout(jaxseq.learned_carry(LSTM), outputs=RATE, recurrent=RATE),
    ),
}
MASK = np.random.default_rng(0).random((T, B)) < 0.7
RESET = np.random.default_rng(1).random((T, B)) < 0.3


def params_of(net, seed=0):
    return zoo.params_of(net, D, seed=seed)


def carry_of(net, params, seed):
    return zoo.random_like(jax.eval_shape(lambda: net.carry(params, (B,))), seed)


def make(net):
    return params_of(net), jnp.asarray(np.random.default_rng(1).normal(size=(T, B, D)))


@functools.partial(jax.jit, static_argnums=0)
def run(net, params, xs, carry=None, key=None):
    return jaxseq.unroll(net, params, xs, carry, key=key)


@pytest.mark.some(2, learn=5)
@pytest.mark.parametrize("name", NETS)
def test_kernels_agree_under_a_key_and_numbers_are_those_of_the_key(name):
    """Values and every gradient, by hand and by autodiff, with masks and resets; another key gives others."""
    net = NETS[name]
    params, xs = make(net)

    in_segments = name in ("recurrent_per_step", "recurrent_gru")  # noise of both kinds

    @jax.jit
    def run(params, xs, key):
        def loss(params, xs, kernel):
            carry, ys = jaxseq.unroll(net, params, xs, mask=MASK, reset=RESET, kernel=kernel, key=key)
            return sum(jnp.sum(jnp.sin(leaf + 1)) for leaf in jax.tree.leaves((carry, ys)))

        all_kernels = [kernels.scan, kernels.bptt, *([kernels.remat(4)] if in_segments else [])]
        return [jax.value_and_grad(loss, (0, 1))(params, xs, kernel) for kernel in all_kernels]

    want, *others = run(params, xs, jax.random.key(5))
    for got in others:
        zoo.assert_close(got, want, 1e-10)
    assert want[0] != run(params, xs, jax.random.key(6))[0][0]


@pytest.mark.parametrize("name", [name for name in NETS if "zoneout" not in name and name not in ("learned", "deep")])
def test_without_a_key_dropout_is_the_net_itself(name):
    net = NETS[name]
    inner = {"outputs_per_step": LSTM, "recurrent": LSTM}.get(name, GRU)
    inner = {"recurrent_gru_before": jaxseq.gru(H, reset_after=False)}.get(name, inner)
    inner = {"recurrent_layer_norm_gru": jaxseq.layer_norm_gru(H)}.get(name, inner)
    params, xs = make(net)
    zoo.assert_close(run(net, params, xs), run(inner, params, xs), 1e-14)  # sums in another order


def test_features_are_dropped_at_their_rate_for_all_steps_alike():
    cell = jaxseq.rnn(50, activation=identity)
    params = jaxseq.RnnParams(np.eye(50), np.zeros((50, 50)), np.zeros(50))
    xs = np.ones((T, 40, 50))
    for option in ("inputs", "outputs"):
        ys = np.asarray(run(dropout(cell, **untyped({option: RATE})), params, xs, key=jax.random.key(0))[1])
        np.testing.assert_array_equal(ys, np.broadcast_to(ys[0], ys.shape))
        np.testing.assert_allclose(np.unique(ys), [0, 1 / (1 - RATE)])
        assert_rate(ys[0] == 0, RATE)
        assert np.any(ys[0, 0] != ys[0, 1])
        ys = np.asarray(
            run(dropout(cell, **untyped({option: RATE}), per_step=True), params, xs, key=jax.random.key(0))[1]
        )
        assert_rate(ys == 0, RATE)
        assert_rate(ys[0] != ys[1], 2 * RATE * (1 - RATE))


def assert_rate(events, rate):
    error = np.sqrt(rate * (1 - rate) / events.size)
    assert abs(np.mean(events) - rate) < 5 * error


def mean_over_keys(net, params, xs, count=4000):
    """The mean of ys over keys, and its standard error."""
    keys = jax.random.split(jax.random.key(7), count)
    ys = np.asarray(jax.jit(jax.vmap(lambda key: jaxseq.unroll(net, params, xs, key=key)[1]))(keys))
    return ys.mean(0), ys.std(0) / np.sqrt(count)


def assert_mean(net, params, xs, want):
    mean, error = mean_over_keys(net, params, xs)
    assert np.all(np.abs(mean - want) <= 5 * error + 1e-12)


@pytest.mark.parametrize("options", [{"inputs": RATE}, {"outputs": RATE}, {"inputs": RATE, "per_step": True}], ids=str)
def test_means_of_linear_nets_are_those_without_dropout(options):
    params, xs = make(LINEAR)
    assert_mean(dropout(LINEAR, **options), params, xs, run(LINEAR, params, xs)[1])


@pytest.mark.parametrize("per_step", [False, True])
def test_means_of_recurrent_dropout(per_step):
    """With W_h = w I, h_T = Σ (w m)^k x: E[m^k] is 1 for masks of each step's own, (1 - rate)^{1-k} for one mask."""
    w = 0.5
    params = jaxseq.RnnParams(np.eye(H), w * np.eye(H), np.zeros(H))
    moments = np.array([1.0 if per_step or k == 0 else (1 - RATE) ** (1 - k) for k in range(T)])
    want = np.cumsum(w ** np.arange(T) * moments)
    xs = np.ones((T, B, H))
    assert_mean(dropout(LINEAR, recurrent=RATE, per_step=per_step), params, xs, want[:, None, None])


def test_mean_of_zoneout_is_what_it_gives_without_a_key():
    """For a linear cell, whose mean carry goes through the cell as it is."""
    params, xs = make(LINEAR)
    net = zoneout(LINEAR, h=RATE)
    assert_mean(net, params, xs, run(net, params, xs)[1])


def test_zoneout_holds_entries_at_its_rates():
    net = zoneout(jaxseq.lstm(50), h=0.2, c=0.6)
    carry = jaxseq.LstmCarry(np.full((40, 50), 7.0), np.full((40, 50), 9.0))
    given = params_of(net), np.ones((1, 40, D)), carry
    last, ys = jax.tree.map(np.asarray, run(net, *given, key=jax.random.key(0)))
    assert_rate(last.h == 7, 0.2)
    assert_rate(last.c == 9, 0.6)
    np.testing.assert_array_equal(ys[0], last.h)


def test_zoneout_without_a_key_is_the_mean_of_old_and_new():
    params, xs = make(LSTM)
    carry, x = jax.tree.map(np.asarray, (carry_of(LSTM, params, 2), xs))
    new, _ = jaxseq.step(LSTM, params, carry, x[0])
    held, y = jaxseq.step(zoneout(LSTM, h=0.2, c=0.6), params, carry, x[0])
    new = jax.tree.map(np.asarray, new)
    zoo.assert_close(held, jaxseq.LstmCarry(0.2 * carry.h + 0.8 * new.h, 0.6 * carry.c + 0.4 * new.c), 1e-15)
    zoo.assert_close(y, held.h, 0)


@pytest.mark.some(1)
@pytest.mark.parametrize("cell", [GRU, jaxseq.layer_norm_gru(H), zoneout(GRU, h=0.1)], ids=["gru", "norm", "zoneout"])
def test_recurrent_dropout_leaves_the_memory_of_a_gru_alone(cell):
    """With an update gate that keeps everything, h comes through any number of steps as it is."""
    params = params_of(cell)
    params = params._replace(b=np.where(np.arange(3 * H) // H == 1, 100.0, params.b))
    h = np.random.default_rng(1).normal(size=(B, H))
    for per_step in (False, True):
        net = dropout(cell, recurrent=0.5, per_step=per_step)
        last, _ = run(net, params, np.ones((100, B, D)), h, key=jax.random.key(2))
        zoo.assert_close(last, h, 1e-12)


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "cell", [jaxseq.rnn(H), LSTM, GRU, jaxseq.layer_norm_lstm(H)], ids=["rnn", "lstm", "gru", "norm"]
)
@pytest.mark.parametrize("per_step", [False, True])
def test_an_h_that_zoneout_holds_is_remembered_and_not_dropped(cell, per_step):
    """Held at nearly every step it comes through as it was; dropped and scaled at each it would explode."""
    net = dropout(zoneout(cell, h=1 - 1e-9), recurrent=0.5, per_step=per_step)
    params = params_of(net)
    carry = carry_of(net, params, 1)
    last, _ = run(net, params, np.ones((100, B, D)), carry, key=jax.random.key(2))
    h = lambda carry: carry if hasattr(carry, "shape") else carry.h
    zoo.assert_close(h(last), h(carry), 1e-12)


@pytest.mark.some(2)
@pytest.mark.parametrize("name", ["gru", "gru_before", "lstm", "rnn"])
def test_recurrent_weights_see_what_was_not_dropped(name):
    """One step against the cell's own weights with rows removed, which is what a dropped unit is to them."""
    cell = zoo.CELLS[name].cell
    params, xs = make(cell)
    params, xs = jax.tree.map(np.asarray, (params, xs))
    carry = carry_of(cell, params, 2)
    net = dropout(cell, recurrent=RATE)
    key = jax.random.key(3)
    assert isinstance(net, jaxseq.Cell)
    assert net.noise is not None
    noisy, _ = jax.jit(net.noise)(key, params, xs[:1])
    got, _ = run(net, params, xs[:1], carry, key=key)
    step = jax.jit(functools.partial(jaxseq.step, cell))
    for row in range(B):
        kept = params._replace(w_h=params.w_h * np.asarray(noisy.extra)[row][:, None] / (1 - RATE))
        want, _ = step(kept, carry, xs[0])
        of_row = functools.partial(jax.tree.map, lambda leaf, row=row: np.asarray(leaf)[row])
        zoo.assert_close(of_row(got), of_row(want), 1e-12)


def test_chunks_draw_anew_and_rows_apart():
    net = dropout(GRU, recurrent=RATE)
    params, xs = make(net)
    keys = jax.random.split(jax.random.key(0))
    alike = np.asarray(xs)[:, :1].repeat(2, axis=1)
    first, second = (np.asarray(run(net, params, alike, key=key)[1]) for key in keys)
    assert np.any(first != second)
    assert np.any(first[:, 0] != first[:, 1])


def test_rate_zero_is_the_cell_itself():
    assert dropout(GRU) is GRU
    assert zoneout(GRU, h=0) is GRU
    assert dropout(GRU, recurrent=0.3) is dropout(GRU, recurrent=0.3, inputs=0)


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, float("nan")])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=r"`recurrent` must be a rate in \[0, 1\)"):
        dropout(GRU, recurrent=rate)
    with pytest.raises(ValueError, match=r"`c` must be a rate in \[0, 1\)"):
        zoneout(LSTM, c=rate)


def test_errors():
    with pytest.raises(TypeError, match=r"`inputs` must be a rate"):
        dropout(GRU, inputs=untyped("0.1"))
    with pytest.raises(TypeError, match=r"`outputs` must be a rate"):
        dropout(GRU, outputs=True)
    with pytest.raises(ValueError, match=r"`per_step` must be True or False"):
        dropout(GRU, inputs=0.1, per_step=untyped("yes"))
    with pytest.raises(ValueError, match=r"`recurrent` acts inside a cell; this is a Composite"):
        dropout(jaxseq.stack(GRU), recurrent=0.1)
    with pytest.raises(TypeError, match=r"Apply `zoneout` to the cells inside it"):
        zoneout(untyped(jaxseq.stack(GRU)), h=0.1)
    with pytest.raises(TypeError, match=r"Apply `learned_carry` to the cells inside it"):
        jaxseq.learned_carry(untyped(jaxseq.stack(GRU)))
    for wrapper in (dropout, zoneout, jaxseq.learned_carry):
        with pytest.raises(TypeError, match=r"`cell` must be a jaxseq.Cell"):
            wrapper(untyped("gru"))
    own = zoo.CELLS["own"].cell
    with pytest.raises(ValueError, match=r"`dropout` acts on parts of the carry by name.*got a tuple"):
        dropout(own, recurrent=0.1).init(jax.random.key(0), D)
    with pytest.raises(ValueError, match=r"`zoneout` acts on parts of the carry by name.*got a tuple"):
        zoneout(own, h=0.1).init(jax.random.key(0), D)
    with pytest.raises(ValueError, match=r"`zoneout` cannot act on `c` of the sLSTM"):
        zoneout(jaxseq.slstm(H), c=0.1).init(jax.random.key(0), D)
    with pytest.raises(ValueError, match=r"`zoneout` of `c` needs a carry with `c`; this one has h"):
        zoneout(GRU, c=0.1).init(jax.random.key(0), D)


def test_names_of_a_carry_of_your_own():
    """A dict's keys are names as a NamedTuple's fields are; one without `h` has nothing to drop."""
    own = zoo.CELLS["own"].cell

    def renamed(*names):
        return own._replace(
            carry=lambda params, batch=(): dict(zip(names, own.carry(params, batch), strict=True)),
            step=lambda params, carry, u: rename(own.step(params, tuple(carry[name] for name in names), u), names),
        )

    def rename(result, names):
        carry, y = result
        return dict(zip(names, carry, strict=True)), y

    named = renamed("h", "c")
    params, xs = make(own)
    net = dropout(zoneout(named, h=RATE, c=RATE), recurrent=RATE)
    carry, ys = jaxseq.unroll(net, params, xs, key=jax.random.key(0), mask=MASK)
    assert set(carry) == {"h", "c"}
    assert np.all(np.isfinite(ys))
    with pytest.raises(ValueError, match=r"`recurrent` drops the carry's `h`; this one has 'memory', 'output'"):
        dropout(renamed("memory", "output"), recurrent=0.1).init(jax.random.key(0), D)


def test_an_array_carry_says_whether_it_is_remembered():
    """A cell that remembers in the h that its weights see would explode, were it dropped and scaled at every step."""

    def leaky(params, carry, u):
        remembered, h = carry if isinstance(carry, jaxseq.Heard) else (carry, carry)
        y = 0.95 * remembered + 0.05 * jnp.tanh(u + h @ params["h"])
        return y, y

    def keeper(hears):
        return jaxseq.Cell(
            size=H,
            init=lambda key, in_size, dtype=None: {"h": jnp.eye(H, dtype=dtype), "x": jnp.eye(in_size, H, dtype=dtype)},
            carry=lambda params, batch_shape=(): jnp.zeros((*batch_shape, H), params["h"].dtype),
            project=lambda params, xs: xs @ params["x"],
            step=leaky,
            hears=hears,
        )

    with pytest.raises(ValueError, match=r"This cell's carry is one array, which may be both. Use Cell"):
        dropout(keeper(None), recurrent=0.2).init(jax.random.key(0), D)
    xs = np.ones((300, B, D))

    def largest(hears):
        net = dropout(keeper(hears), recurrent=0.2)
        return np.abs(run(net, net.init(jax.random.key(0), D), xs, key=jax.random.key(1))[1]).max()

    assert largest(True) <= 1
    assert largest(False) > 1e20


def test_zoneout_of_outputs_that_are_not_h():
    cell = zoo.CELLS["lstm"].cell
    doubled = cell._replace(
        size=2 * cell.size,
        step=lambda params, carry, u: (lambda new: (new, jnp.concatenate(new, axis=-1)))(
            cell.step(params, carry, u)[0]
        ),
        backward=None,
    )
    with pytest.raises(ValueError, match=r"`zoneout` of `h` needs outputs that are h"):
        zoneout(doubled, h=0.1).init(jax.random.key(0), D)
    params, xs = make(doubled)
    assert jaxseq.unroll(zoneout(doubled, c=0.1), params, xs)[1].shape == (T, B, 2 * cell.size)
