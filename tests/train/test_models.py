"""Models that make themselves again: every stock net and module to the bit; what is foreign or damaged is one error."""

import hashlib
import json
import pickle
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import data, nn, train
from jaxseq._json import _nets
from jaxseq.train import _models
from tests import zoo
from tests.interop.test_safetensors import NETS
from tests.interop.test_safetensors import drawn as params_of
from tests.nn.drawn import drawn
from tests.nn.stock import LAYERS, MODELS, ONE_WAY, OTHERS, D, V
from tests.untyped import untyped

VOCABULARY, NORMALIZER = data.Vocabulary.build(["abba"]), data.Normalizer(np.array([0.1, 2]), np.array([1, 3.0]))


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def assert_same_module(got, want):
    """The same class, options and arrays: Flax's graphs, which hold all that is static, are equal."""
    (graph, state), (want_graph, want_state) = nnx.split(got), nnx.split(want)
    assert graph == want_graph
    assert_same(state, want_state)


@pytest.mark.some(4)
@pytest.mark.parametrize("name", [*MODELS, *LAYERS, *OTHERS])
def test_every_stock_module_comes_back(name, tmp_path):
    module = drawn({**MODELS, **LAYERS, **OTHERS}[name])
    train.save_model(tmp_path, module)
    assert_same_module(train.load_model(tmp_path).model, module)


def test_no_module_of_nn_is_forgotten():
    made = [
        nnx.eval_shape(lambda make=make: make(rngs=nnx.Rngs(0))) for make in {**MODELS, **LAYERS, **OTHERS}.values()
    ]
    kinds = {type(part) for module in made for _, part in nnx.iter_graph(module)}
    public = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nnx.Module)}
    assert len(public) > 15
    assert public <= kinds


@pytest.mark.some(4)
@pytest.mark.parametrize("name", NETS)
def test_every_stock_net_comes_back(name, tmp_path):
    net, params = NETS[name], params_of(NETS[name])
    train.save_model(tmp_path, (net, params))
    (loaded, again), info = train.load_model(tmp_path)
    assert loaded is net
    assert info is None
    assert_same(again, params)


@pytest.mark.learn
@pytest.mark.parametrize("wrapper", [wrapper for wrapper in zoo.WRAPPERS if wrapper != "leak"])
def test_every_wrapper_comes_back(wrapper):
    """Around every stock cell, by the description alone."""
    names = [name for name in zoo.wrapped(wrapper) if name.split("(")[1].removesuffix(")") in NETS]
    assert len(names) > 10
    for net in (zoo.find(name).cell for name in names):
        params, description = _models._described("model", (net, params_of(net)))
        made = _models._made(json.loads(json.dumps(description)))
        again, tree = made.of(made.like)
        assert again is net
        assert jax.tree.structure(tree) == jax.tree.structure(params)


def test_vocabularies_and_scalers_come_along(tmp_path):
    info = {"words": VOCABULARY, "more": [{"scale": NORMALIZER}, 1.5, None]}
    tagger, field = drawn(MODELS["tagger"]), drawn(OTHERS["field"])
    train.save_model(
        tmp_path,
        {"tagger": tagger, "field": field, "net": (jaxseq.rnn(2), params_of(jaxseq.rnn(2)))},
        info,
    )
    models, again = train.load_model(tmp_path)
    assert [*models] == ["tagger", "field", "net"]
    assert_same_module(models["tagger"], tagger)
    assert_same_module(models["field"], field)
    assert models["net"][0] is jaxseq.rnn(2)
    for found in (again, train.load_info(tmp_path)):
        assert found["words"] == VOCABULARY
        assert found["more"][1:] == [1.5, None]
        assert isinstance(found["more"][0]["scale"], data.Normalizer)
        jax.tree.map(np.testing.assert_array_equal, found["more"][0]["scale"], NORMALIZER)


def test_options_come_along(tmp_path):
    """Kernels, activations, dtypes; params in another dtype than they were made in; initialisers stay behind."""
    cell = jaxseq.lstm(4, candidate=jax.nn.relu, input_init=jax.nn.initializers.normal(0.1))
    options = {"kernel": jaxseq.kernels.remat(3), "dtype": jnp.bfloat16, "param_dtype": np.dtype("float16")}
    model = nn.SequenceClassifier(cell, 3, 2, **options, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    train.save_model(tmp_path, nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)))
    again = train.load_model(tmp_path).model
    assert again.recurrent.cell is jaxseq.lstm(4, candidate=jax.nn.relu)
    assert again.recurrent.kernel is jaxseq.kernels.remat(3)
    assert again.recurrent.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(again))} == {jnp.dtype("float32")}
    assert again.head.param_dtype == jnp.float16


def test_arrays_of_numpy_come_back_as_the_numbers_they_are_run_by(tmp_path):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params_of(jaxseq.rnn(2)))
    train.save_model(tmp_path, (jaxseq.rnn(2), params))
    assert_same(train.load_model(tmp_path).model[1], jax.tree.map(jnp.float32, params))


def test_what_jax_would_narrow_is_refused(tmp_path, x64):
    train.save_model(tmp_path, (jaxseq.rnn(2), params_of(jaxseq.rnn(2), jnp.float64)))
    assert {leaf.dtype for leaf in train.load_model(tmp_path).model[1] if leaf is not None} == {jnp.dtype("float64")}
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="that jaxseq can rebuild: w_x is float64; enable jax_enable_x64"),
    ):
        train.load_model(tmp_path)


def test_scalers_of_lists_come_along_and_no_others(tmp_path):
    model = jaxseq.rnn(2), params_of(jaxseq.rnn(2))
    train.save_model(tmp_path, model, {"scale": data.Normalizer(untyped([0.5]), untyped([2]))})
    jax.tree.map(
        np.testing.assert_array_equal,
        train.load_model(tmp_path).info["scale"],
        data.Normalizer(untyped([0.5]), untyped([2.0])),
    )
    for fields in ((0.5, 2.0), (None, [1.0]), ([1.0], [1.0, 2.0])):
        with pytest.raises((TypeError, ValueError), match=r"`info\['scale'\]` is no Normalizer that JSON gives back"):
            train.save_model(tmp_path, model, {"scale": data.Normalizer(*untyped(fields))})


def test_every_kernel_comes_along():
    for name, kernel in {**zoo.KERNELS, **zoo.OTHER_KERNELS}.items():
        if name not in ("by_hand", "sequence_parallel"):  # one is of the tests, the other holds devices
            told = json.loads(json.dumps(_nets.value_as_json("kernel", kernel)))
            assert _nets.value_from_json(told, _nets.KINDS) is kernel


@pytest.mark.learn
def test_a_trained_model_is_known_by_its_call_too(tmp_path):
    """Through split, merge and clone, under jit, and as another process loads it."""
    graph, state = nnx.split(nn.LanguageModel(jaxseq.gru(4), V, 4, rngs=nnx.Rngs(0)))
    model = nnx.clone(nnx.merge(graph, jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state))(state)))
    train.save_model(tmp_path, model, {"vocabulary": VOCABULARY})
    code = """if True:
        import sys, numpy as np
        from jaxseq import train
        model, info = train.load_model(sys.argv[1])
        logits = np.ravel(model(np.array([[1, 2]]))).tolist()
        print(type(model).__name__, info["vocabulary"].tokens, logits, sep=";")
    """
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    name, tokens, logits = result.stdout.strip().split(";")
    assert (name, tokens) == ("LanguageModel", str(VOCABULARY.tokens))
    np.testing.assert_allclose(json.loads(logits), np.ravel(model(np.array([[1, 2]]))), rtol=1e-5)


class Own(nn.SequenceTagger):
    """A user's."""


class OwnHead(nn.Point):
    """A user's."""


def changed(**attributes):
    model = nn.SequenceTagger(jaxseq.gru(4), 3, 2, rngs=nnx.Rngs(0))
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def itself():
    models = {}
    models["again"] = models
    return models


def own(a):
    return a


def transformer(activation):
    return nn.Transformer(3, 4, layers=1, heads=1, causal=True, activation=activation, rngs=nnx.Rngs(0))


FAULTS = {
    "made only of modules of jaxseq.nn; .*Own is another": lambda: Own(jaxseq.gru(4), 3, 2, rngs=nnx.Rngs(0)),
    "made only of modules of jaxseq.nn; flax": lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
    "made only by factories of jaxseq": lambda: nn.Recurrent(zoo.own_lstm(3), 2, rngs=nnx.Rngs(0)),
    "`head` must be an object of jaxseq to be stored; got OwnHead": lambda: nn.Forecaster(
        jaxseq.gru(2), 3, 1, head=OwnHead(), rngs=nnx.Rngs(0)
    ),
    "`activation` must be a function": lambda: transformer(own),
    "`model` differs from what its call makes, and cannot be stored: .*head.*bias": lambda: changed(
        head=nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
    ),
    "`model` differs from what its call makes, .*recurrent.cell differ": lambda: changed(
        recurrent=nn.Recurrent(jaxseq.gru(4, candidate=jax.nn.relu), 3, rngs=nnx.Rngs(0))
    ),
    r"`model\['a'\]` must be a module of jaxseq.nn, a pair \(net, params\), or a dict": lambda: {"a": 3},
    "`model` differs from what its call makes, and cannot be stored: .*table differ": lambda: changed(table=np.ones(3)),
    "`model` is nested too deep to be kept, or holds itself": lambda: itself(),
    r"`model\[1\]` must be arrays of numbers to be kept; k are keys": lambda: (jaxseq.rnn(2), {"k": jax.random.key(0)}),
    r"`tree\.w_x` must be an array; got only its shape, float32 \(3, 2\)": lambda: (
        jaxseq.rnn(2),
        jax.eval_shape(lambda: jaxseq.rnn(2).init(jax.random.key(0), 3)),
    ),
    r"`model\[1\]\.w_x` must be an array; got float 1.0": lambda: (
        jaxseq.rnn(2),
        jaxseq.RnnParams(untyped(1.0), untyped(1.0), untyped(1.0)),
    ),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_cannot_be_made_again_is_named(words, tmp_path):
    with pytest.raises((TypeError, ValueError), match=words):
        train.save_model(tmp_path, FAULTS[words]())
    assert [*tmp_path.iterdir()] == []


def save_one(folder):
    train.save_model(
        folder,
        {"a": drawn(nn.SequenceTagger, ONE_WAY, D, 2), "b": (jaxseq.rnn(2), params_of(jaxseq.rnn(2)))},
        {"words": VOCABULARY},
    )
    return folder / "000000000000"


def forge(version, name, text):
    """Another file, with its checksum: what somebody may hand on."""
    (version / name).write_text(text)
    manifest = json.loads((version / "manifest.json").read_text())
    manifest[name] = hashlib.sha256(text.encode()).hexdigest()
    (version / "manifest.json").write_text(json.dumps(manifest))


FORGED = {
    "not a module of jaxseq.nn, KeyError..os.system": ("SequenceTagger", "os.system"),
    "not a module of jaxseq.nn, KeyError..Module": ("SequenceTagger", "Module"),
    "not a net of jaxseq: .*exec": ('"rnn"', '"exec"'),
    "not a net of jaxseq: .*factory": ('"rnn"', '"factory"'),
    "not a module of jaxseq.nn, TypeError.*surprise": ('"tags"', '"surprise"'),
    "holds no model that jaxseq can rebuild: .*differ from those of the module": ('"tags": 2', '"tags": 3'),
    "not params, or an array is missing": ('"RnnParams"', '"GruParams"'),
    "form 2; this version of jaxseq reads form 1": ('"form": 1', '"form": 2'),
    "holds no model that jaxseq can rebuild: KeyError..model": ('"model"', '"modell"'),
    "has arrays that differ from those of its model": ('"b": {"net"', '"c": {"net"'),
    "holds no model that jaxseq can rebuild: .*flowt32": ("float32", "flowt32"),
}


@pytest.mark.parametrize("words", FORGED)
def test_foreign_descriptions_give_one_error(words, tmp_path):
    version = save_one(tmp_path)
    text = (version / "model.json").read_text()
    assert FORGED[words][0] in text
    forge(version, "model.json", text.replace(*FORGED[words]))
    with pytest.raises(ValueError, match=words) as raised:
        train.load_model(tmp_path)
    assert str(version) in str(raised.value)


def test_what_is_no_model_is_told(tmp_path):
    version = save_one(tmp_path / "model")
    for text in ("[]", "3", "{", "[" * 10**5, pickle.dumps({"form": 1}).decode("latin-1")):
        forge(version, "model.json", text)
        with pytest.raises(ValueError, match="holds no model that jaxseq can rebuild"):
            train.load_model(tmp_path / "model")
    train.save(tmp_path / "params", {"a": jnp.ones(2)})
    with pytest.raises(
        ValueError, match=r"was stored by train.save, without a description of a model. Read it by train.load"
    ):
        train.load_model(tmp_path / "params")
    with pytest.raises(FileNotFoundError, match="nothing was saved in"):
        train.load_model(tmp_path / "none")
    (version / "model.json").write_text("{}")
    with pytest.warns(RuntimeWarning, match="passed over: model.json is not as it was"), pytest.raises(train.TornError):
        train.load_model(tmp_path / "model")


def test_a_wrong_vocabulary_is_told(tmp_path):
    version = save_one(tmp_path)
    forge(
        version,
        "info.json",
        '{"words": {"jaxseq.data.Vocabulary": {"tokens": ["a", "a"], "unknown": null, "specials": 1}}}',
    )
    with pytest.raises(ValueError, match=r"not a valid jaxseq.data.Vocabulary: .*must be distinct"):
        train.load_model(tmp_path)
    with pytest.raises(ValueError, match=r"`info` has jaxseq.data.Vocabulary as a key, which jaxseq reserves"):
        train.save(tmp_path, {}, {"jaxseq.data.Vocabulary": 3})


@pytest.mark.learn
def test_a_thousand_mutated_descriptions(tmp_path):
    """Each is refused by one error, or makes a model of the same arrays."""
    version, draw, refused, made = save_one(tmp_path), random.Random(0), 0, 0
    kinds = {tuple, *(kind for kind in vars(nn).values() if isinstance(kind, type))}
    text = (version / "model.json").read_text()
    for _ in range(1000):
        letters = [*text]
        for _ in range(draw.randint(1, 3)):
            place, kind = draw.randrange(len(letters)), draw.randrange(3)
            if kind == 0:
                letters[place] = chr(draw.randrange(32, 127))
            elif kind == 1:
                del letters[place : place + draw.randint(1, 9)]
            else:
                letters[place:place] = [chr(draw.randrange(32, 127)) for _ in range(draw.randint(1, 4))]
        forge(version, "model.json", "".join(letters))
        try:
            models = train.load_model(tmp_path).model
        except ValueError as error:
            refused += str(version) in str(error)
            continue
        assert {type(model) for model in models.values()} <= kinds
        made += 1
    assert refused + made == 1000
    assert made < 100
