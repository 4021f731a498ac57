"""Bad input: one clear error each, which names the argument, what was expected, what came, and the likely cause."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import check, data, decoding, kernels
from jaxseq.structured import crf, ctc, hmm, markov
from jaxseq.train import losses, metrics
from tests import zoo
from tests.untyped import untyped

T, B, D, H = 7, 3, 5, 4
CELL = jaxseq.lstm(H)
PARAMS = zoo.params_of(CELL, D)
XS = jnp.ones((T, B, D))


def unroll(cell: jaxseq.Cell | jaxseq.Composite = CELL, params=PARAMS, xs=XS, carry=None, **options):
    return jaxseq.unroll(cell, params, xs, carry, **options)


def step(cell=CELL, params=PARAMS, carry=None, x=XS[0]):
    return jaxseq.step(cell, params, carry, x)


def counting(size):
    """A cell of y [B, 2], without params, whose carry counts steps and has no batch."""
    return jaxseq.Cell(
        size,
        lambda key, in_size, dtype=None: PARAMS,
        lambda params, batch_shape=(): jnp.zeros(()),
        lambda params, xs: xs[..., :2],
        lambda params, carry, u: (carry + 1, u),
    )


BAD = {
    "mask: batch-major and float": (
        lambda: unroll(mask=jnp.ones((B, T))),
        TypeError,
        r"`mask` must be bool \[T, B\] = \(7, 3\); got float32 \(3, 7\). Did you pass batch-major\?",
    ),
    "mask: batch-major": (
        lambda: unroll(mask=jnp.ones((B, T), bool)),
        ValueError,
        r"`mask` must be bool \[T, B\] = \(7, 3\); got bool \(3, 7\). Did you pass batch-major\?",
    ),
    "mask: dtype": (
        lambda: unroll(mask=jnp.ones((T, B), int)),
        TypeError,
        r"`mask` must be bool \[T, B\] = \(7, 3\); got int32 \(7, 3\). Cast it: mask.astype\(bool\).",
    ),
    "mask: to be broadcast over the batch": (
        lambda: unroll(mask=jnp.ones((T, 1), bool)),
        ValueError,
        r"`mask` must be bool \[T, B\] = \(7, 3\); got bool \(7, 1\). Nothing is broadcast.",
    ),
    "mask: lengths": (
        lambda: unroll(mask=jnp.array([7, 5, 3])),
        TypeError,
        r"got int32 \(3,\). Make one from lengths: jaxseq.lengths_to_mask\(lengths, T\)\.$",
    ),
    "mask: with features": (
        lambda: unroll(mask=jnp.ones((T, B, D), bool)),
        ValueError,
        r"got bool \(7, 3, 5\). Nothing is broadcast.",
    ),
    "reset: batch-major": (
        lambda: unroll(reset=jnp.ones((B, T), bool)),
        ValueError,
        r"`reset` must be bool \[T, B\] = \(7, 3\); got bool \(3, 7\). Did you pass batch-major\?",
    ),
    "xs: wrong feature size": (
        lambda: unroll(xs=jnp.ones((T, B, D + 1))),
        ValueError,
        r"`params.w_x` must be \(6, 16\) for inputs of D = 6 features and this cell; got \(5, 16\).",
    ),
    "xs: no features, of explain": (
        lambda: kernels.explain(CELL, PARAMS, XS[..., :0]),
        ValueError,
        r"`xs` must be \[T, B, D\], of at least one feature; got float32 \(7, 3, 0\)",
    ),
    "xs: integers": (
        lambda: unroll(xs=jnp.ones((T, B, D), int)),
        TypeError,
        r"`xs` must be floating \[T, B, D\]; got int32 \(7, 3, 5\). Embed ids first; cast numbers.",
    ),
    "xs: bools": (lambda: unroll(xs=jnp.ones((T, B, D), bool)), TypeError, r"`xs` must be floating"),
    "xs: complex": (lambda: unroll(xs=jnp.ones((T, B, D), complex)), TypeError, r"`xs` must be floating"),
    "xs: another float dtype": (
        lambda: unroll(xs=XS.astype(jnp.bfloat16)),
        TypeError,
        r"`xs` must be float32, the dtype of `params`; got bfloat16 \(7, 3, 5\). Cast one to the other.",
    ),
    "xs: one axis": (
        lambda: unroll(xs=jnp.ones(T)),
        ValueError,
        r"`xs` must be \[T, B, D\], of at least 2 axes; got float32 \(7,\)",
    ),
    "xs: a dict": (
        lambda: unroll(xs=untyped({"tokens": XS})),
        TypeError,
        r"`xs` must be an array \[T, B, D\]; got dict",
    ),
    "xs: a list": (lambda: unroll(xs=untyped([[1.0]])), TypeError, r"`xs` must be an array \[T, B, D\]; got list"),
    "mask: a list": (lambda: unroll(mask=[True]), TypeError, r"`mask` must be an array \[T, B\]; got list"),
    "params: another cell's": (
        lambda: unroll(params=zoo.params_of(jaxseq.gru(H), D)),
        ValueError,
        r"`params` must be what cell.init\(key, in_size\) returns.*LstmParams.*got.*GruParams.*another cell\?",
    ),
    "params: of another size": (
        lambda: unroll(params=zoo.params_of(jaxseq.lstm(H + 1), D)),
        ValueError,
        r"`params.w_x` must be \(5, 16\).*got \(5, 20\)",
    ),
    "params: without the peepholes": (
        lambda: unroll(jaxseq.lstm(H, peephole="new")),
        ValueError,
        r"`params` must be what cell.init",
    ),
    "params: of mixed dtypes": (
        lambda: unroll(params=PARAMS._replace(b=PARAMS.b.astype(jnp.bfloat16))),
        TypeError,
        r"`params` must have one float dtype; got bfloat16, float32",
    ),
    "params: of a deep net": (
        lambda: unroll(jaxseq.stack(*9 * [CELL]), params=9 * (PARAMS,) + (PARAMS,)),
        ValueError,
        r"what cell.init\(key, in_size\) returns, PyTreeDef.*\.\.\. of \d+ leaves; got .* leaves. Do they belong",
    ),
    "carry: of another cell": (
        lambda: unroll(carry=jnp.zeros((B, H))),
        ValueError,
        r"`carry` must be like cell.carry\(params, \(3,\)\), LstmCarry\(h=float32 \(3, 4\), c=float32 \(3, 4\)\); "
        r"got float32 \(3, 4\). Does it belong to another cell\?",
    ),
    "carry: without the batch": (
        lambda: unroll(carry=CELL.carry(PARAMS)),
        ValueError,
        r"`carry.h` must be float32 \(3, 4\) for the batch \(3,\); got float32 \(4,\)",
    ),
    "carry: of another batch": (
        lambda: unroll(carry=CELL.carry(PARAMS, (1,))),
        ValueError,
        r"`carry.h` must be float32 \(3, 4\) for the batch \(3,\); got float32 \(1, 4\)",
    ),
    "carry: of another dtype": (
        lambda: unroll(carry=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), CELL.carry(PARAMS, (B,)))),
        TypeError,
        r"`carry.h` must be float32 \(3, 4\); got bfloat16 \(3, 4\)",
    ),
    "cell: the factory": (
        lambda: unroll(untyped(jaxseq.lstm)),
        TypeError,
        r"`cell` must be a jaxseq.Cell or a jaxseq.Composite; got lstm. Did you pass the factory itself",
    ),
    "kernel: a name": (
        lambda: unroll(kernel="bptt"),
        TypeError,
        r"`kernel` must be a function such as jaxseq.kernels.scan, or None; got 'bptt'",
    ),
    "kernel: the factory": (
        lambda: unroll(kernel=kernels.remat),
        TypeError,
        r"`kernel` must take \(cell, params, carry, xs, \*, reverse\); remat takes .*segment.* called first",
    ),
    "params: integers": (
        lambda: unroll(params=PARAMS._replace(w_h=jnp.ones((H, 4 * H), int))),
        TypeError,
        r"`params.w_h` must be floating; got int32 \(4, 16\)",
    ),
    "reverse: a word": (lambda: unroll(reverse="no"), TypeError, r"`reverse` must be a Python bool; got str"),
    "reverse: traced": (
        lambda: jax.jit(lambda reverse: unroll(reverse=reverse))(True),
        TypeError,
        r"`reverse` must be a Python bool; got .*Tracer. Under jit, make it static.",
    ),
    "key: a number": (lambda: unroll(key=0), TypeError, r"`key` must be a jax.random.key or None; got int"),
    "last_valid: a row for all": (
        lambda: jaxseq.last_valid(XS, jnp.ones((1, B), bool)),
        ValueError,
        r"`mask` must be bool \[T, B\] = \(7, 3\); got bool \(1, 3\)",
    ),
    "cell: size is not that of y": (
        lambda: unroll(counting(size=3)),
        ValueError,
        r"the outputs must be \(7, 3\) steps by 3 features, the cell's `size`; .* gave \(7, 3, 2\)",
    ),
    "step: size is not that of y": (
        lambda: step(counting(size=3)),
        ValueError,
        r"the outputs must be \(3,\) steps by 3 features, the cell's `size`; .* gave \(3, 2\)",
    ),
    "step: a sequence": (
        lambda: step(carry=CELL.carry(PARAMS, (B,)), x=XS),
        ValueError,
        r"`carry.h` must be float32 \(7, 3, 4\) for the batch \(7, 3\); got float32 \(3, 4\)",
    ),
    "step: integers": (lambda: step(x=jnp.ones((B, D), int)), TypeError, r"`x` must be floating \[B, D\]; got int32"),
    "step: no axis": (lambda: step(x=jnp.ones(())), ValueError, r"`x` must be \[B, D\], of at least 1 axes"),
    "step: wrong feature size": (lambda: step(x=jnp.ones((B, D + 1))), ValueError, r"`params.w_x` must be \(6, 16\)"),
    "lstm: unknown peephole": (
        lambda: jaxseq.lstm(H, peephole="both"),
        ValueError,
        r"`peephole` must be None or 'new' or 'old'; got 'both'",
    ),
    "lstm: candidate": (
        lambda: jaxseq.lstm(H, candidate=untyped("tanh")),
        TypeError,
        r"`candidate` must be an elementwise function such as jnp.tanh; got 'tanh'",
    ),
    "gru: flag": (
        lambda: jaxseq.gru(H, reset_after=untyped("yes")),
        ValueError,
        r"`reset_after` must be True or False",
    ),
    "rnn: activation": (
        lambda: jaxseq.rnn(H, activation=untyped(None)),
        TypeError,
        r"`activation` must be an elementwise",
    ),
    "size: 0": (lambda: jaxseq.lstm(0), ValueError, r"`size` must be a positive int; got 0"),
    "size: negative": (lambda: jaxseq.gru(-1), ValueError, r"`size` must be a positive int; got -1"),
    "size: float": (lambda: jaxseq.rnn(untyped(4.0)), TypeError, r"`size` must be a positive int; got 4.0"),
    "size: bool": (lambda: jaxseq.rnn(True), TypeError, r"`size` must be a positive int; got True"),
    "in_size: 0": (
        lambda: CELL.init(jax.random.key(0), 0),
        ValueError,
        r"`in_size` must be a positive int; got 0",
    ),
    "remat: segment": (lambda: kernels.remat(0), ValueError, r"`segment` must be a positive int; got 0"),
    "last_valid: a list": (
        lambda: jaxseq.last_valid(untyped([1.0]), jnp.ones(1, bool)),
        TypeError,
        r"`ys` must be an array \[T, B, H\]; got list",
    ),
    "last_valid: one axis": (
        lambda: jaxseq.last_valid(jnp.ones(T), jnp.ones(T, bool)),
        ValueError,
        r"`ys` must be \[T, B, H\], of at least 2 axes; got float32 \(7,\)",
    ),
    "last_valid: no mask": (
        lambda: jaxseq.last_valid(XS, untyped(None)),
        TypeError,
        r"`mask` must be bool \[T, B\]; got None",
    ),
    "stack: no cell": (
        lambda: jaxseq.stack(CELL, untyped(3)),
        TypeError,
        r"`cells\[1\]` must be a jaxseq.Cell .* got int",
    ),
    "stack: a list": (
        lambda: jaxseq.stack(untyped([CELL])),
        TypeError,
        r"`cells` must be separate arguments; got one list",
    ),
    "stack: nothing": (lambda: jaxseq.stack(), ValueError, r"`cells` must be at least one cell; got none"),
    "bidirectional: backward": (
        lambda: jaxseq.bidirectional(CELL, untyped(jaxseq.gru)),
        TypeError,
        r"`backward` must be a jaxseq.Cell or a jaxseq.Composite; got gru. Did you pass the factory itself",
    ),
    "around: hears": (
        lambda: jaxseq.around(CELL, hears=untyped("no")),
        ValueError,
        r"`hears` must be None or True or False",
    ),
    "dropout: infinite": (
        lambda: jaxseq.dropout(CELL, inputs=float("inf")),
        ValueError,
        r"`inputs` must be a rate in \[0, 1\); got inf",
    ),
    "zoneout: NaN": (
        lambda: jaxseq.zoneout(CELL, c=float("nan")),
        ValueError,
        r"`c` must be a rate in \[0, 1\); got nan",
    ),
    "factory: no function": (
        lambda: jaxseq.factory(untyped(CELL)),
        TypeError,
        r"`function` must be a function .* got Cell",
    ),
    "lstm: another factory for a bias": (
        lambda: jaxseq.lstm(H, forget_bias=untyped(jaxseq.lstm)),
        TypeError,
        r"`forget_bias` must take \(key, shape, dtype\); lstm takes \(size, \*, peephole=None.*\.\.\.",
    ),
    "gru: a bias that is no initialiser": (
        lambda: jaxseq.gru(H, forget_bias=untyped(jnp.tanh)),
        TypeError,
        r"`forget_bias` must take \(key, shape, dtype\); tanh takes \(x, /\)",
    ),
    "orthogonal: NaN": (
        lambda: jaxseq.initializers.orthogonal(float("nan")),
        ValueError,
        r"`scale` must be a finite number; got nan",
    ),
    "scaled_normal: negative": (
        lambda: jaxseq.initializers.scaled_normal(-1),
        ValueError,
        r"`deviation` must be a number of at least 0; got -1",
    ),
    "chrono: a word": (
        lambda: jaxseq.initializers.chrono(untyped("long")),
        TypeError,
        r"`max_length` must be a finite number; got 'long'",
    ),
    "chrono: infinite": (
        lambda: jaxseq.initializers.chrono(untyped(float("inf"))),
        ValueError,
        r"`max_length` must be a finite number; got inf",
    ),
    "per_gate: no initialiser": (
        lambda: jaxseq.initializers.per_gate(untyped(3), 4),
        TypeError,
        r"`initializer` must be an initialiser .* got 3",
    ),
    "per_gate: no gates": (
        lambda: jaxseq.initializers.per_gate(jaxseq.initializers.orthogonal(), 0),
        ValueError,
        r"`gates` must be a positive int; got 0",
    ),
    "lengths: floats": (
        lambda: jaxseq.lengths_to_mask(jnp.ones(3), 7),
        TypeError,
        r"`lengths` must be integers; got float32",
    ),
    "chrono: too short": (
        lambda: jaxseq.initializers.chrono(2),
        ValueError,
        r"`max_length` must be at least 3 steps; got 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_its_error(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        call()
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("name", ["mask: batch-major", "xs: wrong feature size", "carry: without the batch"])
def test_the_error_is_the_same_under_jit(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        jax.jit(call)()


def test_a_carry_without_leading_batch_is_refused_under_a_mask_only():
    cell = counting(size=2)
    carry, _ = jaxseq.unroll(cell, PARAMS, XS)
    assert carry == T
    with pytest.raises(ValueError, match=r"under a mask or a reset, `carry` must lead with the batch \(3,\); got \(\)"):
        jaxseq.unroll(cell, PARAMS, XS, mask=jnp.ones((T, B), bool))


def test_numpy_inputs_are_welcome():
    """Also params, carry and inputs in NumPy's float64, which is taken as JAX's default float, without a warning."""
    params, carry = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (PARAMS, CELL.carry(PARAMS, (B,))))
    xs, mask = np.ones((T, B, D)), np.ones((T, B), bool)
    want = jaxseq.unroll(CELL, PARAMS, XS)
    for first in (None, carry):
        zoo.assert_close(jaxseq.unroll(CELL, params, xs, first, mask=mask), want, 1e-6)
        zoo.assert_close(jaxseq.step(CELL, params, first, xs[0])[1], want[1][0], 1e-6)


def test_a_carry_that_only_looks_batched_is_refused_under_a_mask():
    """A global count of two beside a batch of two."""
    cell = jaxseq.Cell(
        2,
        lambda key, in_size, dtype=None: jnp.zeros((in_size, 2)),
        lambda params, batch_shape=(): jnp.zeros(2),
        lambda params, xs: xs @ params,
        lambda params, carry, u: (carry + 1, u),
    )
    with pytest.raises(ValueError, match=r"`carry` must lead with the batch \(2,\); got \(2,\)"):
        jaxseq.unroll(cell, jnp.zeros((D, 2)), XS[:, :2], mask=jnp.ones((T, 2), bool))


WIDE = np.array([[2**32 + 3, 1]])  # which JAX, without x64, would wrap to 3
POISSON = hmm.PoissonParams(jnp.ones((2, 2)))
TAGS = crf.Params(jnp.zeros((2, 2)), jnp.zeros(2), jnp.zeros(2))
WIDE_CALLS = {
    "lengths_to_mask": lambda: jaxseq.lengths_to_mask(WIDE[0], 5),
    "lengths_to_mask of a list": lambda: jaxseq.lengths_to_mask(WIDE[0].tolist(), 5),
    "prefetch": lambda: next(data.prefetch([{"ids": WIDE}])),
    "pad": lambda: data.pad(WIDE),
    "pad's value": lambda: data.pad([[1]], length=2, value=2**40),
    "streams": lambda: data.streams(WIDE[0], 1, 1),
    "token_dropout": lambda: data.token_dropout(None, WIDE, 0.1, 1),
    "token_dropout's unknown": lambda: data.token_dropout(jax.random.key(0), WIDE % 2, 0.1, 2**32 + 3),
    "hmm.observe": lambda: hmm.observe(hmm.poisson(), POISSON, WIDE),
    "hmm.fit": lambda: hmm.fit(hmm.poisson(), 2, WIDE, key=jax.random.key(0)),
    "hmm.count": lambda: hmm.count(WIDE, 2),
    "crf.log_likelihood": lambda: crf.log_likelihood(TAGS, jnp.zeros((1, 2, 2)), WIDE),
    "ctc.loss": lambda: ctc.loss(jnp.zeros((3, 1, 3)), WIDE),
    "markov.count": lambda: markov.count(WIDE.T, 4),
    "losses.cross_entropy": lambda: losses.cross_entropy(jnp.zeros((1, 2, 3)), WIDE),
    "metrics.edit_distance": lambda: metrics.edit_distance(WIDE, WIDE % 4),
    "decoding.greedy": lambda: decoding.greedy(
        lambda carry, ids: (carry, jnp.zeros((2, 4))), (), WIDE[0], max_length=3
    ),
    "params": lambda: check.as_jax({"ids": WIDE}),
}


@pytest.mark.parametrize("name", WIDE_CALLS)
def test_integers_that_jax_would_wrap_are_refused(name):
    with pytest.raises(ValueError, match=r"beyond int32|fit into int32|must be"):
        WIDE_CALLS[name]()


def test_what_jax_can_hold_passes_and_the_rest_is_named():
    top = check.array("x", "T", np.array([2**32 - 1], np.uint64))
    assert top.dtype == jnp.uint32
    assert int(top[0]) == 2**32 - 1
    np.testing.assert_array_equal(check.array("x", "T", np.array([np.inf, np.nan, 1.0])), [np.inf, np.nan, 1])
    for wrong in (np.array([2**63], np.uint64), np.array([-(2**31) - 1]), np.array([1e300]), np.array([1e300j])):
        with pytest.raises(ValueError, match=r"`x` holds .* beyond"):
            check.array("x", "T", wrong)
    for wrong in (np.array([None]), np.array(["a"]), np.array(["2020-01-01"], "M8[s]"), np.ones(1, np.longdouble)):
        with pytest.raises(TypeError, match="`x` must hold numbers or bools; got"):
            check.array("x", "T", wrong)
    with pytest.raises(ValueError, match=r"`carry\['n'\]` holds int64 numbers"):
        check.as_jax((PARAMS, {"n": np.int64(2**40)}), ("params", "carry"))
    with pytest.raises(TypeError, match=r"`params.b` must hold numbers or bools; got objects"):
        unroll(params=PARAMS._replace(b=np.array([None] * 16)))


def test_wide_integers_are_held_with_x64(x64):
    assert int(check.array("x", "T", WIDE)[0, 0]) == 2**32 + 3
    assert int(next(data.prefetch([{"ids": WIDE}]))["ids"][0, 0]) == 2**32 + 3
