"""Native loops beyond `unroll`: single steps, streams, and the chains of structured models."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import _stream
from jaxseq.kernels.native import _call, scan_rows
from jaxseq.structured import hmm
from tests import zoo

D, H = 3, 6
CELLS = [jaxseq.lstm(H), jaxseq.gru(H), jaxseq.zoneout(jaxseq.lstm(H), h=0.1), zoo.own_lstm(H), jaxseq.lstm(16)]


def problem(cell, batch=(4,)):
    params = jax.tree.map(jnp.asarray, zoo.params_of(cell, D))
    carry = jax.tree.map(jnp.asarray, zoo.random_like(jax.eval_shape(lambda: cell.carry(params, batch)), 1))
    return params, carry, jnp.asarray(np.random.default_rng(2).normal(size=(*batch, D)), jnp.float32)


def plain(cell, params, carry, x):
    return cell.step(params, carry, cell.project(params, x))


def native_calls(function, *arguments):
    return jax.jit(function).lower(*arguments).as_text().count(_call.TARGET)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("cell", "batch"), [*((cell, (4,)) for cell in CELLS), (CELLS[0], ()), (CELLS[0], (2, 3))], ids=str
)
def test_a_step_is_machine_code_with_the_values_of_the_cell(cell, batch):
    step, arguments = functools.partial(jaxseq.step, cell), problem(cell, batch)
    assert native_calls(step, *arguments) == 1
    want = plain(cell, *arguments)
    zoo.assert_close(jax.jit(step)(*arguments), want, 1e-6)
    zoo.assert_close(step(*arguments), want, 1e-6)
    with jax.disable_jit():
        zoo.assert_close(step(*arguments), want, 1e-6)


def test_weights_that_are_read_once_do_not_keep_a_step_from_it():
    cell = jaxseq.lstm(512)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    carry, x = jax.eval_shape(lambda params: cell.carry(params, (1,)), params), jax.ShapeDtypeStruct((1, D), "float32")
    assert native_calls(functools.partial(jaxseq.step, cell), params, carry, x) == 1
    xs = jax.ShapeDtypeStruct((20, 1, D), "float32")
    assert native_calls(functools.partial(jaxseq.unroll, cell), params, xs) == 0


def test_derivatives_of_a_step_are_jaxs_in_every_mode():
    cell = jaxseq.gru(H)
    arguments = problem(cell)

    def loss(step, *arguments):
        carry, y = step(cell, *arguments)
        return jnp.sum(jnp.sin(y)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))

    def modes(step):
        of = functools.partial(loss, step)
        return {
            "reverse": jax.jit(jax.grad(of, (0, 1, 2))),
            "forward": jax.jit(jax.jacfwd(of, 2)),
            "second": jax.jit(jax.hessian(of, 2)),
            "eager": jax.grad(of),
            "mapped": jax.jit(jax.vmap(lambda params: of(params, *arguments[1:]))),
        }

    for name, function in modes(jaxseq.step).items():
        two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf / 2]), arguments[0])
        given = (two,) if name == "mapped" else arguments
        zoo.assert_close(function(*given), modes(plain)[name](*given), 1e-5)
        assert native_calls(function, *given) == 0


def test_an_exported_step_is_xlas():
    cell = jaxseq.lstm(H)
    arguments = problem(cell)
    exported = jax.export.export(jax.jit(functools.partial(jaxseq.step, cell)))(*arguments)
    assert _call.TARGET not in exported.mlir_module()
    zoo.assert_close(jax.tree.leaves(exported.call(*arguments)), jax.tree.leaves(plain(cell, *arguments)), 1e-6)


def test_a_stream_runs_native_loops_and_can_be_differentiated_forward():
    cell = jaxseq.lstm(H)
    params, carry, x = problem(cell)
    xs = jnp.stack([x, 2 * x, -x])
    assert _stream._run_chunk.lower(cell, params, xs, carry).as_text().count(_call.TARGET) == 1

    def last(stream, xs):
        *_, (_, ys) = stream(xs)
        return ys[-1]

    got = jax.jacfwd(lambda xs: last(lambda xs: jaxseq.stream(cell, params, [xs[:2], xs[2:]], carry), xs))(xs)
    want = jax.jacfwd(lambda xs: jaxseq.unroll(cell, params, xs, carry, kernel=jaxseq.kernels.scan)[1][-1])(xs)
    zoo.assert_close(got, want, 1e-6)


def chain(K, T=7, batch=(3,)):
    generator = np.random.default_rng(0)
    initial, *rows = np.log(generator.dirichlet(np.ones(K), size=K + 1))
    mask = generator.random((T, *batch)) < 0.8
    arrays = (jnp.asarray(x, jnp.float32) for x in (initial, np.array(rows), generator.normal(size=(T, *batch, K))))
    return *arrays, jnp.asarray(mask)


@pytest.mark.learn
@pytest.mark.parametrize(("batch", "masked"), [((2, 2), True)], ids=str)
def test_chains_of_many_states_are_machine_code_both_ways(batch, masked, monkeypatch):
    initial, transition, log_obs, mask = chain(40, batch=batch)
    mask = mask if masked else None
    smooth = lambda log_obs: hmm.smooth(initial, transition, log_obs, mask=mask)
    gradient = jax.grad(lambda log_obs: hmm.log_likelihood(initial, transition, log_obs, mask=mask).sum())
    both = lambda log_obs: (smooth(log_obs), gradient(log_obs), jax.vmap(smooth, 0, 0)(log_obs[None]))
    assert native_calls(lambda log_obs: (smooth(log_obs), gradient(log_obs)), log_obs) >= 2
    got = jax.jit(both)(log_obs)
    monkeypatch.setenv("JAXSEQ_NATIVE", "0")
    jax.clear_caches()
    assert native_calls(both, log_obs) == 0
    zoo.assert_close(got, jax.jit(lambda log_obs: both(log_obs))(log_obs), 1e-5)


def test_chains_of_few_states_are_xlas():
    initial, transition, log_obs, _ = chain(5)
    assert native_calls(lambda log_obs: hmm.smooth(initial, transition, log_obs), log_obs) == 0


def test_what_has_no_native_form_runs_all_the_same():
    def sums(scale, carry, x):
        carry = jnp.cumsum(carry * scale + x, -1)
        return carry, carry[..., :1]

    xs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)), jnp.float32)
    run = lambda xs: scan_rows(sums, jnp.float32(0.5), jnp.zeros((2, 3)), xs)
    want = jax.lax.scan(functools.partial(sums, 0.5), jnp.zeros((2, 3)), xs)
    assert native_calls(run, xs) == 0
    zoo.assert_close(run(xs), want, 1e-6)
