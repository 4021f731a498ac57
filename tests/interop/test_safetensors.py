"""A net and its params in one safetensors file, and back to the bit; what is damaged or foreign gives one error."""

import json
import pickle
import random
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.untyped import untyped

OWN = re.compile("own|hard_sigmoid|tanh_tanh")  # functions of tests
NETS = {
    **{name: entry.cell for name, entry in zoo.CELLS.items() if not OWN.search(f"{name} {entry.cell!r}")},
    "deep": jaxseq.stack(
        jaxseq.bidirectional(jaxseq.lstm(4, peephole="new"), jaxseq.gru(4), merge="mean"),
        jaxseq.residual(jaxseq.dropout(jaxseq.rnn(4, activation=jax.nn.relu), outputs=0.5, recurrent=0.1)),
        jaxseq.learned_carry(jaxseq.zoneout(jaxseq.lstm(4, coupled=True, clip=3), h=0.1, c=0.2)),
    ),
}


def drawn(net, dtype=None):
    size = next(size for size in (4, 3, 12, 27, 18) if fits(net, size))
    return zoo.params_of(net, size, dtype)


def fits(net, size):
    try:
        jax.eval_shape(lambda key: net.init(key, size), jax.random.key(0))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", NETS)
def test_back_to_the_bit(name, tmp_path):
    net, params = NETS[name], drawn(NETS[name])
    interop.safetensors.save(tmp_path / "net", net, params)
    loaded, again = interop.safetensors.load(tmp_path / "net")
    assert loaded is net
    assert jax.tree.structure(again) == jax.tree.structure(params)
    for was, now in zip(*map(jax.tree.leaves, (params, again)), strict=True):
        assert was.dtype == now.dtype
        np.testing.assert_array_equal(was, now)
    names = safetensors.safe_open(tmp_path / "net", "numpy").keys()
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert sorted(names) == sorted(jax.tree_util.keystr(path, simple=True, separator=".") for path in paths)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8", "bool", "complex64"])
def test_any_tree_of_any_dtype(dtype, tmp_path, x64):
    params = {
        "a": (jnp.ones([2, 0], dtype), [jnp.asarray(3, dtype)]),
        "b": None,
        "c": jaxseq.LstmCarry(jnp.zeros(2, dtype), untyped(None)),
    }
    interop.safetensors.save(tmp_path / "net", jaxseq.lstm(3), params)
    _, again = interop.safetensors.load(tmp_path / "net")
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(again))


def test_initialisers_are_not_kept(tmp_path):
    net = jaxseq.lstm(3, input_init=jax.nn.initializers.normal(0.1), forget_bias=jaxseq.initializers.chrono(9))
    interop.safetensors.save(tmp_path / "net", net, drawn(net))
    assert interop.safetensors.load(tmp_path / "net")[0] is jaxseq.lstm(3)


def own(a):
    return a


FAULTS = {
    "`candidate` must be a function of jax.nn or jnp": (jaxseq.lstm(3, candidate=own), {}),
    "made only by factories of jaxseq": (zoo.own_lstm(3), {}),
    "tree of arrays; a is 'text'": (jaxseq.lstm(3), {"a": "text"}),
    "of a dtype that safetensors supports; a is complex128": (jaxseq.lstm(3), {"a": np.zeros(2, np.complex128)}),
    "names without dots": (jaxseq.lstm(3), {"a.b": np.zeros(2)}),
    "`net` must be a jaxseq.Cell": (jaxseq.lstm, {}),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_cannot_be_kept_is_named(words, tmp_path):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.safetensors.save(tmp_path / "net", *FAULTS[words])
    assert [*tmp_path.iterdir()] == []


def rewritten(data, **metadata):
    """The bytes of a file with other metadata."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def save_one(path):
    net = jaxseq.stack(jaxseq.lstm(3), jaxseq.rnn(2, activation=jax.nn.relu))
    interop.safetensors.save(path, net, drawn(net))
    return path.read_bytes()


FOREIGN = {
    "not written by jaxseq": lambda data: safetensors.numpy.save({"weight": np.zeros(2)}),
    "is not a safetensors file": lambda data: pickle.dumps({"weight": np.zeros(2)}),
    "is not a safetensors file, or is damaged": lambda data: b"",
    "its contents differ from what was written": lambda data: data[:-1] + b"\x99",
    "not a net of jaxseq: .*system": lambda data: rewritten(data, net='["os.system", ["true"], {}]'),
    "not a net of jaxseq: .*jax.nn.exec": lambda data: rewritten(
        data, net='["rnn", [], {"size": 3, "activation": {"function": "jax.nn.exec"}}]'
    ),
    "not a net of jaxseq: .*surprise": lambda data: rewritten(data, net='["rnn", [3], {"surprise": 1}]'),
    "not params, or an array is missing": lambda data: rewritten(data, params='{"tuple": {"0": "1.w_z"}}'),
    "not params, or an array": lambda data: rewritten(data, params='{"LstmParams": {"w_x": null}}'),
    "is damaged": lambda data: rewritten(data, net="["),
}


@pytest.mark.parametrize("words", FOREIGN)
def test_damaged_and_foreign_files_give_one_error(words, tmp_path):
    (tmp_path / "net").write_bytes(FOREIGN[words](save_one(tmp_path / "net")))
    with pytest.raises(ValueError, match=words):
        interop.safetensors.load(tmp_path / "net")


@pytest.mark.learn
def test_a_thousand_mutated_files(tmp_path):
    """Each is refused by one error, or was not changed in what it says."""
    data, draw, refused, same = save_one(tmp_path / "net"), random.Random(0), 0, 0
    before = interop.safetensors.load(tmp_path / "net")
    for _ in range(1000):
        bytes_ = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            place, kind = draw.randrange(len(bytes_)), draw.randrange(3)
            if kind == 0:
                bytes_[place] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del bytes_[place : place + draw.randint(1, 9)]
            else:
                bytes_[place:place] = draw.randbytes(draw.randint(1, 9))
        (tmp_path / "net").write_bytes(bytes_)
        try:
            net, params = interop.safetensors.load(tmp_path / "net")
        except ValueError as error:
            refused += str(tmp_path) in str(error)
            continue
        assert net is before[0]
        assert jax.tree.structure(params) == jax.tree.structure(before[1])
        jax.tree.map(np.testing.assert_array_equal, params, before[1])
        same += 1
    assert refused + same == 1000
    assert same < 20
