"""Under JAX's own modes every public function gives its usual values; called again, it compiles nothing."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from tests import zoo
from tests.full import FULL
from tests.modes import table

MODES = {
    "rank": lambda: jax.numpy_rank_promotion("raise"),
    "dtype": lambda: jax.numpy_dtype_promotion("strict"),
    "nans": lambda: jax.debug_nans(True),
    "leaks": lambda: jax.checking_leaks(),
    "disable_jit": lambda: jax.disable_jit(),
}
TOGETHER = ("rank", "dtype", "nans")  # what they forbid is seen together
CALLS = table.calls()
IN_TURN = [(call, ("leaks", "disable_jit")[place % 2]) for place, call in enumerate(CALLS[::10])]
ALL = [(call, mode) for call in CALLS for mode in MODES] if FULL else IN_TURN
# JAX takes for a leak what the body of a scan closes over in jax.shard_map, in five lines without this library too.
ALONE = [(call, "disable_jit" if (str(call), mode) == ("pipeline", "leaks") else mode) for call, mode in ALL]


def run(call, *modes, eager=False):
    """The values of a call under modes: where it can be as one program, as an eager one is many, each compiled."""
    with contextlib.ExitStack() as stack:
        for mode in modes:
            stack.enter_context(MODES[mode]())
        return jax.tree.map(np.asarray, call.run() if eager or not call.traced else jax.jit(lambda: call.run())())


@functools.cache
def usual(call):
    """The usual values, of an eager call."""
    return run(call, eager=True)


def first_of_all(call):
    """A parameter of `make test` where it is of kernels, masks or `unroll`, of `make learn` where it is of the rest."""
    is_core = call.names[0].split(".")[0] in ("kernels", "masking", "unroll", "step", "stream")
    return pytest.param(call, marks=() if is_core else pytest.mark.learn)


@pytest.mark.some(2, learn=36)
@pytest.mark.parametrize("call", list(map(first_of_all, CALLS)), ids=str)
def test_usual_values_where_promotion_and_nan_are_refused(call):
    zoo.assert_close(run(call, *TOGETHER), run(call), 1e-5)


@pytest.mark.learn
@pytest.mark.parametrize(("call", "mode"), ALONE, ids=str)
def test_usual_values_in_a_mode_alone(call, mode):
    """Every sixth call in one of the modes that change how JAX runs it; `make modes` runs every call in each."""
    zoo.assert_close(run(call, mode, eager=True), usual(call), 1e-4)


@pytest.mark.some(0, learn=30)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_second_call_compiles_nothing(call, count_compilations):
    jax.block_until_ready(call.run())  # now, as programs are dropped between tests
    assert count_compilations(call.run) == 0


def test_every_public_function_is_called():
    named = {id(table.find(name)) for call in CALLS for name in call.names}
    outside = {id(table.find(name)) for names in table.OUTSIDE.values() for name in names}
    assert sorted(name for value, name in table.public().items() if value not in named | outside) == []
    assert named & outside == set()


@pytest.mark.some(5, learn=12)
@pytest.mark.parametrize("name", [name for name in zoo.CELLS if "own" not in name])
def test_cells_of_16_bits_promote_nothing_by_themselves(name):
    """Of every kind, by every kernel: that it can be traced is enough, as what promotes is seen then."""
    cell = zoo.find(name).cell
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3, jnp.bfloat16))
        xs = jax.ShapeDtypeStruct((4, 2, 3), jnp.bfloat16)
        for kernel in (kernels.scan, kernels.bptt, kernels.remat(2)):
            run = functools.partial(jaxseq.unroll, cell, kernel=kernel)
            loss = lambda params, xs, run=run: jnp.sum(run(params, xs)[1].astype(jnp.float32))
            d_params, d_xs = jax.eval_shape(jax.grad(loss, (0, 1)), params, xs)
            assert {leaf.dtype for leaf in jax.tree.leaves((d_params, d_xs))} == {jnp.dtype(jnp.bfloat16)}
