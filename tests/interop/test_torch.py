"""State dicts of plain arrays, which need no PyTorch; each fault gives one error that names it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.untyped import untyped

RANDOM = np.random.default_rng(0)


def state(gates=4, hidden=3, size=2, suffix="_l0"):
    rows = gates * hidden
    shapes = {"weight_ih": (rows, size), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
    return {f"{name}{suffix}": RANDOM.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("gates", "cell"), [(1, jaxseq.rnn(3)), (3, jaxseq.gru(3)), (4, jaxseq.lstm(3))], ids=str)
def test_the_kind_is_told_by_the_shapes(gates, cell):
    net, params = interop.torch.from_state_dict(state(gates))
    assert net is cell
    assert params.w_x.shape == (2, 3 * gates)


def test_a_prefix_chooses_among_others():
    arrays = {f"encoder.rnn.{name}": leaf for name, leaf in state(3).items()} | {"head.weight": np.zeros([3, 3])}
    assert interop.torch.from_state_dict(arrays, prefix="encoder.rnn.")[0] is jaxseq.gru(3)


FAULTS = [
    (lambda s: {**s, "head.weight": np.zeros(3)}, {}, "has 'head.weight', not a weight of a recurrent module"),
    (
        lambda s: {**s, "weight_ih_l0": s["weight_ih_l0"][:-1]},
        {},
        r"`state_dict\['weight_ih_l0'\]` must be of the shape \[12, any\]",
    ),
    (lambda s: {**s, "weight_ih_l0": s["weight_ih_l0"] * np.nan}, {}, "weight_ih_l0'\\]` holds NaN"),
    (
        lambda s: {**s, "weight_ih_l0": s["weight_ih_l0"].astype(int)},
        {},
        "weight_ih_l0'\\]` must be an array of floats",
    ),
    (lambda s: {**s, "weight_ih_l0": "text"}, {}, "weight_ih_l0'\\]` must be an array; got str"),
    (lambda s: {**s, "weight_ih_l0": np.array([{}])}, {}, "weight_ih_l0'\\]` must be an array of floats"),
    (
        lambda s: {name: leaf for name, leaf in s.items() if name != "bias_hh_l0"},
        {},
        "`state_dict` must have 'bias_hh_l0'",
    ),
    (
        lambda s: {name.replace("l0", "l1"): leaf for name, leaf in s.items()},
        {},
        "`state_dict` must have 'weight_hh_l0'",
    ),
    (lambda s: s | state(suffix="_l1", size=5), {}, "layer 1 reads 5 features; the one before has 3"),
    (lambda s: s | state(suffix=""), {}, "must hold one module"),
    (lambda s: s, {"kind": "gru"}, "weight_hh_l0'\\]` has 12 rows for 3 features.*`kind` is 'gru'"),
    (lambda s: s, {"kind": "lru"}, "`kind` must be"),
    (lambda s: s, {"prefix": "rnn"}, "no weights under the `prefix` 'rnn'; there are weight_ih_l0"),
    (lambda s: {}, {}, "no weights"),
    (lambda s: [], {}, "`state_dict` must be a dict"),
    (lambda s: {**s, "weight_hr_l0": np.zeros([3, 2])}, {}, "weight_hh_l0'\\]` has 12 rows for 2 features"),
]


@pytest.mark.parametrize(("spoil", "options", "message"), FAULTS, ids=[message for *_, message in FAULTS])
def test_faults_are_named(spoil, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        interop.torch.from_state_dict(spoil(state()), **options)


WITHOUT_EQUAL = {
    "peephole='new'": jaxseq.lstm(3, peephole="new"),
    "candidate=sigmoid": jaxseq.lstm(3, candidate=jax.nn.sigmoid),
    "clip=2": jaxseq.lstm(3, clip=2),
    "gate=relu": jaxseq.lstm(3, gate=jax.nn.relu),
    "`coupled` with the gate": jaxseq.lstm(3, gate=jax.nn.relu, coupled=True),
    "reset_after=False": jaxseq.gru(3, reset_after=False),
    "activation=sigmoid": jaxseq.rnn(3, activation=jax.nn.sigmoid),
    "learned_carry": jaxseq.learned_carry(jaxseq.gru(3)),
    "residual": jaxseq.residual(jaxseq.gru(3)),
    "merge='sum'": jaxseq.bidirectional(jaxseq.gru(3), merge="sum"),
    "layers differ": jaxseq.stack(jaxseq.gru(3), jaxseq.gru(4)),
    "conv_lstm": jaxseq.conv_lstm((3,), 1),
    "slstm": jaxseq.slstm(3),
    "zoneout": jaxseq.zoneout(jaxseq.gru(3), h=0.1),
    "`bidirectional` around a net": jaxseq.bidirectional(jaxseq.stack(jaxseq.gru(3), jaxseq.gru(3))),
}


@pytest.mark.parametrize("words", WITHOUT_EQUAL)
def test_what_pytorch_has_no_equal_of_is_named(words):
    net = WITHOUT_EQUAL[words]
    params = zoo.params_of(net, 3)
    with pytest.raises(ValueError, match=words):
        interop.torch.to_state_dict(net, params)


def test_biases_and_cells():
    net = jaxseq.stack(jaxseq.gru(3), jaxseq.gru(3))
    params = net.init(jax.random.key(0), 2)
    assert not any("bias" in name for name in interop.torch.to_state_dict(net, params, bias=False))
    with pytest.raises(ValueError, match="`bias` is False"):
        interop.torch.to_state_dict(net, zoo.random_like(params, 0), bias=False)
    with pytest.raises(ValueError, match="`cell` must be False"):
        interop.torch.to_state_dict(net, params, cell=True)
    with pytest.raises(ValueError, match="no factory of jaxseq"):
        interop.torch.to_state_dict(net._replace(size=3, step=None), params)
    with pytest.raises(TypeError, match="`net`"):
        interop.torch.to_state_dict(untyped(jnp.tanh), params)
