"""What factories make prints and pickles as the call that makes it; nets of one's own as their functions' names."""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxseq
from jaxseq import initializers, kernels
from jaxseq.structured import hmm
from tests import zoo
from tests.forms.own import leaking, own_lstm
from tests.untyped import untyped

NAMES = {"relu": jax.nn.relu, "hard_sigmoid": jax.nn.hard_sigmoid, "sin": jnp.sin, "leaking": leaking}
ROOT = Path(jaxseq.__file__).parents[1]

PRINTED = {
    "lstm(7)": jaxseq.lstm(size=7, peephole=None),
    "lstm(7, peephole='new', candidate=relu, gate=hard_sigmoid, projection=3, coupled=True, clip=2.0)": jaxseq.lstm(
        7,
        clip=2,
        coupled=True,
        gate=jax.nn.hard_sigmoid,
        projection=3,
        candidate=jax.nn.relu,
        peephole="new",
    ),
    "gru(4, forget_bias=chrono(50.0), recurrent_init=orthogonal(0.5))": jaxseq.gru(
        4, recurrent_init=initializers.orthogonal(0.5), forget_bias=initializers.chrono(50)
    ),
    "rnn(4, activation=sin, input_init=he_normal(), bias_init=scaled_normal(0.5))": jaxseq.rnn(
        4, activation=jnp.sin, input_init=initializers.he_normal(), bias_init=initializers.scaled_normal(0.5)
    ),
    "conv_lstm((2, 3), 4)": jaxseq.conv_lstm([2, 3], 4, window=[3, 3]),
    "conv_lstm((2, 3), 4, window=(3, 1))": jaxseq.conv_lstm([2, 3], 4, window=[3, 1]),
    "slstm(4, heads=2)": jaxseq.slstm(4, heads=2, forget="sigmoid"),
    "stack(lstm(4), residual(gru(4)))": jaxseq.stack(jaxseq.lstm(4), jaxseq.residual(jaxseq.gru(4))),
    "bidirectional(lstm(4))": jaxseq.bidirectional(jaxseq.lstm(4), jaxseq.lstm(4)),
    "bidirectional(lstm(4), gru(4), merge='sum')": jaxseq.bidirectional(jaxseq.lstm(4), jaxseq.gru(4), merge="sum"),
    "dropout(lstm(4), inputs=0.2, recurrent=0.3)": jaxseq.dropout(jaxseq.lstm(4), inputs=0.2, recurrent=0.3),
    "dropout(gru(4), recurrent=0.3, per_step=True)": jaxseq.dropout(jaxseq.gru(4), recurrent=0.3, per_step=True),
    "zoneout(learned_carry(lstm(4)), c=0.5)": jaxseq.zoneout(jaxseq.learned_carry(jaxseq.lstm(4)), h=0, c=0.5),
    "masked(gru(4))": jaxseq.masking.masked(jaxseq.gru(4)),
    "leaking(lstm(4), 0.1)": leaking(jaxseq.lstm(4), 0.1),
}


@jaxseq.factory
def scaled(cell, /, *names, by=2.0, **options):
    """A wrapper with arguments of every kind."""
    return jaxseq.around(cell, leave=lambda given, u, before, new, y: (new, by * y))


@jaxseq.factory
def size_last(activation=jnp.tanh, size=4):
    return jaxseq.rnn(size, activation=activation)._replace(hears=None)


@jaxseq.factory
def _hidden(size):
    return jaxseq.rnn(size)._replace(hears=None)


@jaxseq.factory
def _shrink(cell):
    return jaxseq.around(cell, leave=shrink)


def shrink(given, u, before, new, y):
    return new, y / 2


def init(key, in_size, dtype=None):
    return jnp.ones((in_size, 4), dtype)


def carry(params, batch_shape=()):
    return jnp.zeros((*batch_shape, 4), params.dtype)


def project(params, xs):
    return xs @ params


@jax.jit
def step(params, carry, u):
    return carry + u, carry + u


OWN = jaxseq.Cell(4, init, carry, project, step)
OTHER = own_lstm(4)  # of closures


@pytest.mark.parametrize("printed", PRINTED)
def test_what_is_made_prints_as_the_call_and_pickles_as_it(printed):
    made = PRINTED[printed]
    assert repr(made) == printed
    assert eval(printed, {**vars(jaxseq), **vars(initializers), **vars(jaxseq.masking), **NAMES}) is made
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(made, protocol)) is made
    assert copy.deepcopy({"net": made})["net"] is copy.copy(made) is made


@pytest.mark.parametrize("wrapper", zoo.WRAPPERS)
def test_every_wrapper_pickles(wrapper):
    net = zoo.find(f"{wrapper}(lstm)").cell
    assert pickle.loads(pickle.dumps(net)) is net
    assert "lstm(4)" in repr(net)
    assert "=" not in repr(net).split("lstm(4)")[0]


def test_kernels_pickle():
    for kernel in (kernels.scan, kernels.bptt, kernels.remat(), kernels.remat(4), kernels.truncated(3)):
        assert pickle.loads(pickle.dumps(kernel)) is kernel
        assert copy.deepcopy(kernel) is kernel


def test_a_factory_of_ones_own():
    lstm = jaxseq.lstm(4)
    for made, printed in (
        (scaled(lstm), "scaled(lstm(4))"),
        (scaled(lstm, "a", "b", by=3, more=OWN), f"scaled(lstm(4), 'a', 'b', by=3, more={OWN})"),
        (scaled(lstm, (1, jnp.tanh)), "scaled(lstm(4), (1, tanh))"),
        (scaled(lstm, (initializers.orthogonal(),)), "scaled(lstm(4), (orthogonal(),))"),
        (size_last(jnp.tanh, 5), "size_last(size=5)"),
        (_hidden(3), "_hidden(3)"),  # nothing public behind it
        (_shrink(lstm), "_shrink(lstm(4))"),  # nor here: `shrink` takes something else
    ):
        assert repr(made) == printed
        assert pickle.loads(pickle.dumps(made)) is made
    assert scaled(lstm, by=2) is scaled(lstm)
    assert size_last(size=5) is size_last(jnp.tanh, 5)
    assert size_last.__name__ == "size_last"
    with pytest.raises(TypeError, match="`size` must be hashable, as functions, numbers and cells are; list is not"):
        size_last(size=untyped([4]))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        size_last(**untyped({"sizes": 4}))


def test_what_was_made_before_keeps_its_call():
    """A factory may hand on what another made."""

    @jaxseq.factory
    def small():
        return jaxseq.lstm(11)

    assert repr(small()) == repr(small()) == "lstm(11)"
    assert pickle.loads(pickle.dumps(small())) is jaxseq.lstm(11)


def test_cells_of_ones_own():
    """They print and pickle as their functions' names; what is jitted is found by its own."""
    assert repr(OWN) == "Cell(size=4, init=init, carry=carry, project=project, step=step)"
    assert repr(own_lstm(4)).startswith("Cell(size=4, init=own_lstm.init, carry=own_lstm.carry, project=own_lstm.")
    backward = jaxseq.Backward(*untyped((init, carry, project)))
    assert repr(OWN._replace(backward=backward)).endswith("backward=Backward(fwd=init, bwd=carry, collect=project))")
    net = jaxseq.stack(OWN, jaxseq.lstm(4))
    assert repr(net) == f"stack({OWN}, lstm(4))"
    for made in (OWN, net, OWN._replace(hears=False), OWN._replace(backward=backward)):
        loaded = pickle.loads(pickle.dumps(made))
        assert loaded == made
        assert hash(loaded) == hash(made)
        assert copy.deepcopy(made) is made
    assert pickle.loads(pickle.dumps(net)) is net
    with pytest.raises((AttributeError, pickle.PicklingError), match="own_lstm"):
        pickle.dumps(own_lstm(4))


def test_parts_of_what_was_made():
    """A stock cell with a field replaced, and a cell that borrows from one; what an own cell lends stays its own."""
    bare = jaxseq.lstm(4)._replace(hears=True)
    assert repr(bare.backward) == "lstm(4).backward"
    assert repr(bare).startswith("Cell(size=4, init=lstm(4).init, carry=lstm(4).carry, project=lstm(4).project, step=")
    stock = jaxseq.gru(4, reset_after=False)
    assert stock.backward is not None
    halved = stock._replace(backward=stock.backward._replace(project=None))
    borrowed = jaxseq.Cell(4, stock.init, stock.carry, stock.project, step)
    assert "bwd=gru(4, reset_after=False).backward.bwd" in repr(halved)
    for made in (bare, halved, borrowed, stock.backward):
        loaded = pickle.loads(pickle.dumps(made))
        assert loaded == made
    jaxseq.residual(own_lstm(4))
    jaxseq.dropout(jaxseq.residual(OTHER), inputs=0.2)
    with pytest.raises((AttributeError, pickle.PicklingError), match="own_lstm"):
        pickle.dumps(jaxseq.residual(OTHER))


def test_around_without_a_factory():
    """It pickles too, if its functions do, as another cell of the same numbers."""
    cell = jaxseq.around(jaxseq.lstm(4), leave=shrink)
    assert "init=lstm(4).init, carry=_Outer.carry" in repr(cell)
    loaded = pickle.loads(pickle.dumps(cell))
    params = zoo.params_of(cell, 3)
    got, want = (jaxseq.unroll(each, params, jnp.ones((3, 2, 3))) for each in (loaded, cell))
    zoo.assert_close(got, want, 0)


def test_emissions():
    for made, printed in ((hmm.gaussian(), "gaussian()"), (hmm.categorical(5, pseudocount=1), None)):
        assert pickle.loads(pickle.dumps(made)) is copy.deepcopy(made) is made
        assert printed is None or repr(made) == printed
    assert repr(hmm.gaussian_mixture(3)) == "gaussian_mixture(3)"


def test_another_process_makes_its_own():
    """As a spawned worker does, which unpickles what it is to run."""
    nets = jaxseq.stack(jaxseq.lstm(4), jaxseq.dropout(jaxseq.gru(4), inputs=0.2)), kernels.remat(4)
    run = functools.partial(jaxseq.unroll, nets[0], kernel=nets[1])
    code = "import pickle, sys; f = pickle.load(sys.stdin.buffer); print(f.args[0], f.keywords['kernel'].__name__)"
    result = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(run), capture_output=True, cwd=ROOT)
    assert result.stdout.decode() == "stack(lstm(4), dropout(gru(4), inputs=0.2)) remat(4)\n", result.stderr.decode()
