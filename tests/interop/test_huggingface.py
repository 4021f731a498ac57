"""`interop.huggingface` without transformers: round trips, files, and options that have no equivalent."""

import functools
import json
import pickle
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import jaxseq
from jaxseq import interop, nn
from tests.nn.drawn import drawn

H, V = 8, 11


def blocks(make, epsilon=1e-6, count=2, **options):
    return lambda rngs: nn.Blocks([make(rngs) for _ in range(count)], epsilon=epsilon, **options, rngs=rngs)


KINDS = {
    "mamba": blocks(lambda rngs: nn.MambaBlock(H, state=4, rank=3, window=3, rngs=rngs), 1e-5),
    "mamba2": blocks(lambda rngs: nn.Mamba2Block(H, inner=24, heads=6, state=4, groups=2, epsilon=1e-6, rngs=rngs)),
    "recurrent_gemma": blocks(lambda rngs: nn.GriffinBlock(H, inner=12, heads=3, window=2, hidden=5, rngs=rngs)),
    "xlstm": blocks(lambda rngs: nn.XlstmBlock(H, inner=14, heads=2, key_size=3, hidden=13, cap=5, rngs=rngs)),
    "qwen3_next": blocks(
        lambda rngs: nn.GatedDeltaNetBlock(H, heads=6, key_heads=3, key_size=2, value_size=5, hidden=7, rngs=rngs)
    ),
}
WITHOUT_BIAS = "qwen3_next"  # of its convolution


@functools.cache
def written(kind):
    """A kind's state dict and config."""
    return interop.huggingface.to_state_dict(made(kind))


def made(kind, around=lambda layer, rngs: layer):
    """The blocks of a kind, or what is around them, drawn, without the biases that transformers has none of."""
    layer = drawn(lambda rngs: around(KINDS[kind](rngs), rngs))
    graph, state = nnx.split(layer)
    none = ("head.bias",) + (("conv.params.b",) if kind == WITHOUT_BIAS else ())

    def kept(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        scale = name.endswith("scale") and kind in ("recurrent_gemma", "qwen3_next")  # kept less 1
        return leaf * 0 if name.endswith(none) else (jnp.abs(leaf) + 0.5 if scale else leaf)

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(kept, state))


def assert_same(one, other):
    """To the bit, and of the same form."""
    pairs = nnx.split(one), nnx.split(other)
    assert jax.tree.structure(pairs[0][1]) == jax.tree.structure(pairs[1][1])
    for was, now in zip(*(jax.tree.leaves(state) for _, state in pairs), strict=True):
        assert was.dtype == now.dtype
        np.testing.assert_array_equal(was, now)
    assert repr([block.cell.cell for block in one.blocks]) == repr([block.cell.cell for block in other.blocks])


MAMBA = written("mamba")


@pytest.mark.parametrize("kind", KINDS)
def test_back_to_the_bit(kind):
    layer = made(kind)
    arrays, config = interop.huggingface.to_state_dict(layer)
    json.dumps(config)
    again = interop.huggingface.from_state_dict(arrays, config)
    assert_same(layer, again)
    assert again.last_norm.epsilon == layer.last_norm.epsilon
    one = interop.huggingface.from_layer(arrays, config, 1)
    for was, now in zip(*(jax.tree.leaves(nnx.state(each)) for each in (layer.blocks[1], one)), strict=True):
        np.testing.assert_array_equal(was, now)
    back, same_config = interop.huggingface.to_state_dict(again)
    assert same_config == config
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(("kind", "tied"), [("mamba", True), ("mamba2", False), ("qwen3_next", False)])
def test_language_models(kind, tied):
    model = made(kind, lambda layer, rngs: nn.LanguageModel(layer, V, H, tied=tied, rngs=rngs))
    arrays, config = interop.huggingface.to_state_dict(model)
    assert "lm_head.weight" in arrays
    again = interop.huggingface.from_causal_lm(arrays, config)
    assert again.tied is tied
    for was, now in zip(*(jax.tree.leaves(nnx.state(each)) for each in (model, again)), strict=True):
        np.testing.assert_array_equal(was, now)
    assert_same(model.recurrent, interop.huggingface.from_state_dict(arrays, config))  # the head is passed over


def test_the_first_mambas_named_the_embedding_otherwise():
    model = made("mamba", lambda layer, rngs: nn.LanguageModel(layer, V, H, tied=True, rngs=rngs))
    arrays, config = interop.huggingface.to_state_dict(model)
    arrays["backbone.embedding.weight"] = arrays.pop("backbone.embeddings.weight")
    again = interop.huggingface.from_causal_lm(arrays, config)
    np.testing.assert_array_equal(again.embedding.embedding[...], model.embedding.embedding[...])


def test_bfloat16_and_a_convolution_without_bias():
    arrays, config = MAMBA
    arrays = {name: array.astype(jnp.bfloat16) for name, array in arrays.items() if not name.endswith("conv1d.bias")}
    layer = interop.huggingface.from_state_dict(arrays, {**config, "use_conv_bias": False})
    assert {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(layer))} == {"bfloat16"}
    assert not np.any(layer.blocks[0].conv.params.b)


FIRST = "layers.0.mixer.in_proj.weight"
FAULTS = {
    "`state_dict` must be a dict": lambda s, c: ([], c),
    "`config` must be a dict": lambda s, c: (s, 3),
    "`config\\['model_type'\\]` must be 'mamba' or": lambda s, c: (s, c | {"model_type": "llama"}),
    "`config\\['use_bias'\\]`, except False": lambda s, c: (s, c | {"use_bias": True}),
    "equivalent of 'gelu' as `config\\['hidden_act'\\]`": lambda s, c: (s, c | {"hidden_act": "gelu"}),
    "`config\\['state_size'\\]` must be a positive int": lambda s, c: (s, c | {"state_size": "4"}),
    "`config\\['time_step_rank'\\]` must be": lambda s, c: (s, c | {"time_step_rank": -1}),
    "`config\\['layer_norm_epsilon'\\]` must be": lambda s, c: (s, c | {"layer_norm_epsilon": float("nan")}),
    "must have 3 layers layers.0 to layers.2": lambda s, c: (s, c | {"num_hidden_layers": 3}),
    "must have 2147483647 layers": lambda s, c: (s, c | {"num_hidden_layers": 2**31 - 1}),
    "must be of the shape \\[32, 8\\]; got \\[31, 8\\]": lambda s, c: (s | {FIRST: s[FIRST][:-1]}, c),
    "in_proj.weight'\\]` holds NaN": lambda s, c: (s | {FIRST: s[FIRST] * np.nan}, c),
    "in_proj.weight'\\]` .*float32": lambda s, c: (s | {FIRST: np.full(s[FIRST].shape, 1e300)}, c),
    "in_proj.weight'\\]` must be an array of floats": lambda s, c: (s | {FIRST: s[FIRST].astype(int)}, c),
    "must have 'layers.0.mixer.in_proj.weight'": lambda s, c: ({n: a for n, a in s.items() if n != FIRST}, c),
    "has layers.1.mixer.in_proj.bias, which no layer": lambda s, c: (s | {"layers.1.mixer.in_proj.bias": s[FIRST]}, c),
    "must have 'norm_f.weight'": lambda s, c: ({n: a for n, a in s.items() if n != "norm_f.weight"}, c),
}


@pytest.mark.some(8)
@pytest.mark.parametrize("words", FAULTS)
def test_faults_are_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.huggingface.from_state_dict(*FAULTS[words](*MAMBA))


OTHERS = {
    "mamba2": {"time_step_limit": [0.0, 1.0]},
    "mamba2: num_heads · head_dim": {"head_dim": 3},
    "recurrent_gemma: layer 1": {"block_types": ["recurrent", "attention"]},
    "recurrent_gemma: is empty": {"block_types": []},
    "recurrent_gemma": {"hidden_activation": "silu"},
    "xlstm": {"use_bias": True},
    "xlstm: num_hidden_layers": {"num_blocks": 3},
    "xlstm: hidden_size": {"embedding_dim": 3},
    "xlstm: qk_dim_factor": {"qk_dim_factor": 0.9},
    "xlstm: 'single' or 'fused'": {"weight_mode": "both"},
    "qwen3_next: layer 1": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next: layer 1 is": {"layer_types": None, "full_attention_interval": 2},
    "qwen3_next: layer 0 has": {"num_experts": 4, "mlp_only_layers": [1]},
    "qwen3_next: must be a sequence": {"mlp_only_layers": 3},
}


@pytest.mark.some(7)
@pytest.mark.parametrize("case", OTHERS)
def test_options_without_an_equal_are_named(case):
    kind, _, words = case.partition(": ")
    arrays, config = written(kind)
    option = next(iter(OTHERS[case]))
    with pytest.raises((TypeError, ValueError), match=words or option) as raised:
        interop.huggingface.from_state_dict(arrays, config | OTHERS[case])
    assert option in str(raised.value) or words


@pytest.mark.parametrize("kind", ["recurrent_gemma", "xlstm"])
def test_bounds_of_logits_are_named(kind):
    with pytest.raises(ValueError, match=r"logits?_soft_cap"):
        interop.huggingface.from_causal_lm(*written(kind))


def test_a_model_without_a_head_is_no_language_model():
    with pytest.raises(ValueError, match=r"must have 'embeddings\.weight'"):
        interop.huggingface.from_causal_lm(*MAMBA)


def test_one_layer_of_a_mixed_model():
    """RecurrentGemma's third layer is attention; the others are read one by one."""
    arrays, config = written("recurrent_gemma")
    config = config | {"block_types": ["recurrent", "attention"], "num_hidden_layers": 3}
    assert isinstance(interop.huggingface.from_layer(arrays, config, 0), nn.GriffinBlock)
    with pytest.raises(ValueError, match="'attention' in `config\\['block_types'\\]`, which layer 1 is"):
        interop.huggingface.from_layer(arrays, config, 1)
    with pytest.raises(ValueError, match="`layer` must be one of 3"):
        interop.huggingface.from_layer(arrays, config, 3)


def mixed(rngs):
    return nn.Blocks([nn.MambaBlock(H, rngs=rngs), nn.GriffinBlock(H, rngs=rngs)], rngs=rngs)


def mamba(rngs, **options):
    return nn.MambaBlock(H, **{"state": 4, "rank": 3, "epsilon": 1e-6} | options, rngs=rngs)


WITHOUT_EQUAL = {
    "must be an nn.Blocks": lambda rngs: nn.Recurrent(jaxseq.lstm(3), H, rngs=rngs),
    "blocks of GriffinBlock, MambaBlock": mixed,
    "blocks of MlstmBlock": blocks(lambda rngs: nn.MlstmBlock(H, heads=2, rngs=rngs)),
    "`in_features`": blocks(mamba, in_features=3),
    '`norm="rms"`': blocks(mamba, norm="layer"),
    "several `epsilon`": blocks(lambda rngs: mamba(rngs, epsilon=1e-3)),
    "not all alike": lambda rngs: nn.Blocks([mamba(rngs), mamba(rngs, state=5)], rngs=rngs),
    "`inner=12`": blocks(lambda rngs: mamba(rngs, inner=12)),
    "`cap=None`": blocks(lambda rngs: nn.XlstmBlock(H, heads=2, cap=None, rngs=rngs)),
    "of `conv.params.b`, which is not zero": KINDS["qwen3_next"],
    "of `head.bias`": lambda rngs: nn.LanguageModel(KINDS["mamba"](rngs), V, H, rngs=rngs),
    "`ngrams`": lambda rngs: nn.LanguageModel(blocks(mamba)(rngs), V, 4, ngrams=nn.NGrams((2,), features=4), rngs=rngs),
    "`output_logit_soft_cap`": lambda rngs: nn.LanguageModel(KINDS["xlstm"](rngs), V, H, rngs=rngs),
}


@pytest.mark.some(5)
@pytest.mark.parametrize("words", WITHOUT_EQUAL)
def test_what_transformers_has_no_equal_of_is_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.huggingface.to_state_dict(drawn(WITHOUT_EQUAL[words]))


def write(folder, arrays, config, shards=1):
    """A model's folder as transformers writes it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        safetensors.numpy.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
        return
    places = {name: f"model-{place % shards + 1:05}-of-{shards:05}.safetensors" for place, name in enumerate(arrays)}
    for file in {*places.values()}:
        own = {name: array for name, array in arrays.items() if places[name] == file}
        safetensors.numpy.save_file(own, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("shards", [1, 3])
def test_folders(shards, tmp_path):
    write(tmp_path, *MAMBA, shards=shards)
    arrays, config = interop.huggingface.read(tmp_path)
    assert config == MAMBA[1]
    assert sorted(arrays) == sorted(MAMBA[0])
    assert_same(interop.huggingface.from_state_dict(*MAMBA), interop.huggingface.from_state_dict(arrays, config))


class Runs:
    """What would run, were it unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


FILES = {
    "is not a safetensors file": {"model.safetensors": pickle.dumps(Runs())},
    "config.json is not JSON": {"config.json": pickle.dumps(Runs())},
    "must hold a JSON object": {"config.json": b"[]"},
    "must have a `weight_map` of files in its folder; got None": {"model.safetensors.index.json": b"{}"},
    "of files in its folder; got {'a': '../b'}": {"model.safetensors.index.json": b'{"weight_map": {"a": "../b"}}'},
    "of files in its folder; got {'a': '..'}": {"model.safetensors.index.json": b'{"weight_map": {"a": ".."}}'},
    "of files in its folder; got {'a': '.x00'}": {"model.safetensors.index.json": b'{"weight_map": {"a": "\\u0000"}}'},
    "of files in its folder; got {'a': 3}": {"model.safetensors.index.json": b'{"weight_map": {"a": 3}}'},
}


@pytest.mark.parametrize("words", FILES)
def test_damaged_folders_give_one_error(words, tmp_path):
    write(tmp_path, *MAMBA)
    for name, data in FILES[words].items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=words):
        interop.huggingface.read(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    write(tmp_path, *MAMBA)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        interop.huggingface.read(tmp_path)


@pytest.mark.learn
def test_a_thousand_mutated_folders(tmp_path):
    """Each gives blocks or one error; the numbers themselves have no checksum in such a file."""
    write(tmp_path, *MAMBA)
    paths = [tmp_path / name for name in ("config.json", "model.safetensors")]
    whole = [path.read_bytes() for path in paths]
    header = 8 + int.from_bytes(whole[1][:8], "little")
    draw, refused = random.Random(0), 0
    for case in range(1000):
        changed = bytearray(whole[case % 2])
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(min(len(changed), header))] = draw.randrange(256)
        if draw.random() < 0.2:
            changed = changed[: draw.randrange(len(changed))]
        paths[case % 2].write_bytes(changed)
        try:
            layer = interop.huggingface.from_state_dict(*interop.huggingface.read(tmp_path))
        except (TypeError, ValueError):
            refused += 1
        else:
            assert isinstance(layer, nn.Blocks)
        paths[case % 2].write_bytes(whole[case % 2])
    assert refused > 500
