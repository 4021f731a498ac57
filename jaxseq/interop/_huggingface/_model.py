"""The description of a model of `transformers`, and the check of a config against it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxseq import check
from jaxseq._factory import call_of
from jaxseq.interop._huggingface._keys import Key

Config = dict[str, Any]


class Option(NamedTuple):
    """An option that changes what a model computes: the default of transformers, and the check of a value."""

    default: Any
    check: Callable[[str, Any], Any]


def _alike(config: Config, layer: int) -> None:
    """Accepts any layer, for models whose layers are all of one kind."""


class Model(NamedTuple):
    """A model of transformers whose blocks exist in `nn`.

    Attributes:
      block: the class of the blocks.
      prefix: the prefix of the names in a model with a head.
      layers, embeddings: the names of these parts.
      last_norm: the norm after the last block.
      epsilon: the name of the option that sets the norms' epsilon.
      options: all options that change what the model computes, except `COMMON`.
      only: the one supported value of each option that supports only one.
      arguments: returns the block's arguments for a config.
      config: returns the options for a block and the number of blocks.
      keys: the keys of a layer.
      refuse: raises for a layer of which `nn` has no block.
      cap: the option that bounds logits, of which nn.LanguageModel has no equivalent.
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
    """Returns a check that also accepts None."""
    return lambda name, value: None if value is None else check(name, value)


def checked(config: Any, models: Mapping[str, Model]) -> tuple[Model, Config]:
    """Returns the model of a config, and its options, each with a value.

    Raises:
      TypeError, ValueError: the config is of another model, or an option is wrong or has no equivalent. The message
        names it.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(config, Mapping):
        raise TypeError(f"`config` must be a dict, or a config of transformers; got {check.short(config)}")
    check.one_of("config['model_type']", config.get("model_type"), tuple(models))
    model = models[config["model_type"]]
    for name, value in model.only.items():
        got = _plain(config.get(name, value))
        if got != value:
            raise ValueError(
                f"jaxseq.nn has no equivalent of {check.short(got)} as `config[{name!r}]`, except {value!r}"
            )
    found = {}
    for name, option in model.options.items():
        value = config.get(name, option.default)
        replaced = option.check(f"config[{name!r}]", value)
        found[name] = value if replaced is None else replaced
    return model, found


def _plain(value):
    """Returns a value as it was before transformers wrote it to JSON, which has neither tuples nor infinity."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return float(value["__float__"]) if isinstance(value, dict) and [*value] == ["__float__"] else value


def made(block: Any) -> dict[str, Any]:
    """Returns the arguments of the factory call that made a block's cell."""
    call = call_of(block.cell.cell)
    if call is None:
        raise ValueError(f"transformers has no equivalent of the cell {check.short(block.cell.cell)}")
    return call[1]


def window(block: Any) -> int:
    """Returns the width of a block's convolution, in steps."""
    return block.conv.params.w.shape[0]


def mlp(theirs: str) -> dict[str, str]:
    """Returns the names of a gated MLP's products in transformers, by their names in jaxseq."""
    return {f"mlp.{name}": f"{theirs}.{name}_proj" for name in ("gate", "up", "down")}


def common(vocabulary: int, features: int, layers: int, tied: bool) -> dict[str, Option]:
    """Returns the options that all models share, with these defaults."""
    return {
        "vocab_size": Option(vocabulary, check.positive_int),
        "hidden_size": Option(features, check.positive_int),
        "num_hidden_layers": Option(layers, check.positive_int),
        "tie_word_embeddings": Option(tied, check.switch),
    }
