"""PyTorch's RNN, LSTM and GRU, and their cells, by `interop.torch`: values and gradients, in float64, and back."""

import hypothesis
import jax
import numpy as np
import pytest
import torch
from hypothesis import strategies as some

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, carries, problem, run
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def modules():
    """A module's kind, sizes and options."""
    sizes = {"input_size": some.integers(1, 4), "hidden_size": some.integers(2, 4), "num_layers": some.integers(1, 3)}
    options = some.fixed_dictionaries({**sizes, "bidirectional": some.booleans(), "bias": some.booleans()})
    return some.one_of(
        some.tuples(some.just("gru"), options, some.just({})),
        some.tuples(some.just("rnn"), options, some.sampled_from([{"nonlinearity": "relu"}, {"nonlinearity": "tanh"}])),
        some.tuples(some.just("lstm"), options, some.sampled_from([{}, {"proj_size": 1}])),
    )


def gradients_agree(module, net, d_params):
    """Ours are exported as weights are, which is linear; of second biases only b_hn has one of its own."""
    ours = interop.torch.to_state_dict(net, d_params, bias=True)
    for name, parameter in module.named_parameters():
        value, want = ours[name], parameter.grad.numpy()
        if name.startswith("bias_hh"):
            hidden = len(want) // 3
            value, want = (value[2 * hidden :], want[2 * hidden :]) if isinstance(module, torch.nn.GRU) else (0, 0)
        zoo.assert_close(value, want, 1e-12, name)


def assert_agrees(case, ragged, seed):
    kind, options, more = case
    torch.manual_seed(seed)
    module = MODULES[kind](**options, **more, dtype=torch.float64)
    net, params = interop.torch.from_module(module)
    given = problem(net, params, options["input_size"], seed, ragged)
    ours = run(net, params, given)

    starts, is_lstm = carries(given.carry), kind == "lstm"
    leaves = [[c.h for c in starts], [c.c for c in starts]] if is_lstm else [starts]
    start = [torch.tensor(np.stack(leaf), requires_grad=True) for leaf in leaves]
    inputs = xs = torch.tensor(given.xs, requires_grad=True)
    if ragged:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(given.lengths), enforce_sorted=False)
    ys, last = module(inputs, tuple(start) if is_lstm else start[0])
    if ragged:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=len(given.xs))
    last = last if is_lstm else (last,)
    ((ys * torch.tensor(given.d_ys)).sum() + sum(torch.sin(leaf).sum() for leaf in last)).backward()

    def stacked(tree):
        parts = carries(tree)
        return [np.stack(leaf) for leaf in ([[c.h for c in parts], [c.c for c in parts]] if is_lstm else [parts])]

    zoo.assert_close(ours.ys, ys.detach().numpy(), 1e-12, "ys")
    zoo.assert_close(stacked(ours.last), [leaf.detach().numpy() for leaf in last], 1e-12, "last")
    zoo.assert_close(stacked(ours.d_carry), [untyped(leaf.grad).numpy() for leaf in start], 1e-12, "d_carry")
    zoo.assert_close(ours.d_xs, untyped(xs.grad).numpy(), 1e-12, "d_xs")
    gradients_agree(module, net, ours.d_params)

    named = {name: value for name, value in more.items() if name == "nonlinearity"}
    assert_same_net((net, params), interop.torch.from_state_dict(interop.torch.to_state_dict(net, params), **named))
    assert_same_net((net, params), interop.torch.from_module(interop.torch.to_module(net, params)))


@pytest.mark.some(3)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize(
    "case",
    [
        ("rnn", {"num_layers": 1, "bidirectional": True, "bias": True}, {"nonlinearity": "relu"}),
        ("lstm", {"num_layers": 2, "bidirectional": True, "bias": True}, {"proj_size": 2}),
        ("gru", {"num_layers": 2, "bidirectional": False, "bias": False}, {}),
    ],
    ids=lambda case: case[0],
)
def test_modules_agree(case, ragged):
    kind, options, more = case
    assert_agrees((kind, {"input_size": 3, "hidden_size": 4, **options}, more), ragged, 0)


@pytest.mark.learn
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(modules(), some.booleans(), some.integers(0, 1000))
def test_random_modules_agree(case, ragged, seed):
    assert_agrees(case, ragged, seed)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_cells_agree(kind, bias):
    module = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[kind](
        3, 4, bias=bias, dtype=torch.float64
    )
    net, params = interop.torch.from_module(module)
    x, (h, c) = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=(2, 2, 4))
    carry = jaxseq.LstmCarry(h, c) if kind == "lstm" else h
    last, _ = jax.jit(jaxseq.step, static_argnums=0)(net, params, carry, x)
    want = module(torch.tensor(x), tuple(map(torch.tensor, carry)) if kind == "lstm" else torch.tensor(carry))
    want = want if kind == "lstm" else (want,)
    zoo.assert_close(jax.tree.leaves(last), [leaf.detach().numpy() for leaf in want], 1e-12)
    state = interop.torch.to_state_dict(net, params, prefix="rnn.", bias=bias, cell=True)
    module.load_state_dict({name.removeprefix("rnn."): torch.from_numpy(leaf) for name, leaf in state.items()})
    assert_same_net((net, params), interop.torch.from_state_dict(state, prefix="rnn"))


def test_dropout_between_layers_and_bfloat16():
    module = torch.nn.GRU(3, 4, num_layers=2, dropout=0.25, dtype=torch.bfloat16)
    net, params = interop.torch.from_module(module)
    assert net is jaxseq.stack(jaxseq.dropout(jaxseq.gru(4), outputs=0.25, per_step=True), jaxseq.gru(4))
    assert params[0].w_x.dtype == jax.numpy.bfloat16
    made = interop.torch.to_module(net, params)
    assert made.dropout == 0.25
    other = made.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in module.state_dict().items() if "bias" not in name)


@pytest.mark.parametrize(
    "net",
    [
        jaxseq.dropout(jaxseq.gru(4), inputs=0.25),
        jaxseq.dropout(jaxseq.gru(4), recurrent=0.25),
        jaxseq.stack(jaxseq.dropout(jaxseq.gru(4), outputs=0.25), jaxseq.gru(4)),
        jaxseq.dropout(jaxseq.stack(jaxseq.gru(4), jaxseq.gru(4)), outputs=0.25, per_step=True),
        jaxseq.stack(
            *[jaxseq.dropout(jaxseq.gru(4), outputs=rate, per_step=True) for rate in (0.25, 0.5)], jaxseq.gru(4)
        ),
    ],
    ids=str,
)
def test_dropout_that_pytorch_has_not_is_named(net):
    params = net.init(jax.random.key(0), 4)
    with pytest.raises(ValueError, match="PyTorch has dropout of the outputs of every layer but the last only"):
        interop.torch.to_module(net, params)
    assert "weight_hh_l0" in interop.torch.to_state_dict(net, params)


@pytest.mark.parametrize("cell", [jaxseq.lstm(4, coupled=True), jaxseq.gru(4, update_writes=True)], ids=str)
def test_what_pytorch_has_by_other_weights(cell):
    params = zoo.params_of(cell, 3)
    given = problem(cell, params, 3, 0, ragged=False)
    h, *c = (torch.tensor(np.asarray(leaf)[None]) for leaf in jax.tree.leaves(given.carry))
    ys, _ = interop.torch.to_module(cell, params)(torch.tensor(given.xs), (h, *c) if c else h)
    zoo.assert_close(run(cell, params, given).ys, ys.detach().numpy(), 1e-12)
