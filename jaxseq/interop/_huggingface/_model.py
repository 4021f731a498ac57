"""What is to be known of a model of `transformers`, and its config, held against that."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxseq import check
from jaxseq._factory import call_of
from jaxseq.interop._huggingface._keys import Key

Config = dict[str, Any]


class Option(NamedTuple):
    """An option that the function of a model depends on: the default of transformers, and what checks a value."""

    default: Any
    check: Callable[[str, Any], Any]


def _alike(config: Config, layer: int) -> None:
    """All layers are of the one kind."""


class Model(NamedTuple):
    """A model of transformers, whose blocks are those of `nn`.

    Attributes:
      block: the class of the blocks.
      prefix: what stands before the names of a model with a head.
      layers, embeddings: how these parts are called.
      last_norm: the norm after the last block.
      epsilon: the option of the norms' epsilon.
      options: all that the function depends on, but `COMMON`.
      only: the value that has an equal, of options of which one has.
      arguments: the config as the arguments of the block.
      config: a block, and how many there are, as the options.
      keys: of a layer.
      refuse: raises of a layer that `nn` has no block of.
      cap: the option that bounds logits, which nn.LanguageModel has no equal of.
    """

    block: type
    prefix: str
    layers: str
    embeddings: str
    last_norm: Key
    epsilon: str
    options: dict[str, Option]
    only: Config
    arguments: Callable[[Config], Config]
    config: Callable[[Any, int], Config]
    keys: Callable[[Config], list[Key]]
    refuse: Callable[[Config, int], None] = _alike
    cap: str | None = None


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Returns the check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def checked(config: Any, models: Mapping[str, Model]) -> tuple[Model, Config]:
    """Returns the model of a config, and its options, each with a value.

    Raises:
      TypeError, ValueError: it is of another model, or an option does not fit, or has no equal, which is named.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(config, Mapping):
        raise TypeError(f"`config` must be a dict, or a config of transformers; got {check.short(config)}")
    check.one_of("config['model_type']", config.get("model_type"), tuple(models))
    model = models[config["model_type"]]
    for name, value in model.only.items():
        got = _plain(config.get(name, value))
        if got != value:
            raise ValueError(f"jaxseq.nn has no equal of {check.short(got)} as `config[{name!r}]`, but of {value!r}")
    found = {}
    for name, option in model.options.items():
        value = config.get(name, option.default)
        replaced = option.check(f"config[{name!r}]", value)
        found[name] = value if replaced is None else replaced
    return model, found


def _plain(value):
    """A value as it was before transformers wrote it to JSON, which has neither tuples nor infinity."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return float(value["__float__"]) if isinstance(value, dict) and [*value] == ["__float__"] else value


def made(block: Any) -> dict[str, Any]:
    """Returns the arguments that the cell of a block was made with."""
    call = call_of(block.cell.cell)
    if call is None:
        raise ValueError(f"transformers has no equal of the cell {check.short(block.cell.cell)}")
    return call[1]


def window(block: Any) -> int:
    """Returns the steps of a block's convolution."""
    return block.conv.params.w.shape[0]


def mlp(theirs: str) -> dict[str, str]:
    """Returns the products of a gated MLP by the names of ours."""
    return {f"mlp.{name}": f"{theirs}.{name}_proj" for name in ("gate", "up", "down")}


def common(vocabulary: int, features: int, layers: int, tied: bool) -> dict[str, Option]:
    """Returns the options that all models have, by their defaults."""
    return {
        "vocab_size": Option(vocabulary, check.positive_int),
        "hidden_size": Option(features, check.positive_int),
        "num_hidden_layers": Option(layers, check.positive_int),
        "tie_word_embeddings": Option(tied, check.switch),
    }
