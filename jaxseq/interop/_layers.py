"""A common form of all libraries' recurrent layers: named gates, one or two directions, and a stack of layers.

    cell, params  <->  Weights         one cell, arrays by gate
    net, params   <->  [Layer, ...]    from the inputs up; each has one or two `Weights`

The module of a library has a table of its gate orders, transposes and names, and code that converts to and from this
form. Two options of jaxseq are missing in most libraries. They are converted to weights with the same function:

    coupled          i = 1 - f = σ(-a_f):  an input gate with the forget gate's weights negated
    update_writes    z = σ(a_z) writes:    σ(-a_z) = 1 - σ(a_z) keeps, with the update gate's weights negated
"""

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import cells, check, wrappers
from jaxseq._factory import call_of
from jaxseq.interop._arrays import Gates, array, join, split
from jaxseq.typing import Cell, Composite, Params

GATES = {"rnn": ("n",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "conv_lstm": ("i", "f", "g", "o")}
"""The gates of the cells, in the order of the params. The one of `rnn` is called n, like the candidate of `gru`."""
_FACTORIES = {name: getattr(cells, name) for name in GATES}
_PARAMS = {
    "rnn": cells.RnnParams,
    "lstm": cells.LstmParams,
    "gru": cells.GruParams,
    "conv_lstm": cells.ConvLstmParams,
}
_PEEPHOLES: tuple[str, ...] = ("i", "f", "o")
_ODD = (jax.nn.sigmoid, jax.lax.logistic, jax.nn.hard_sigmoid)  # f(-a) = 1 - f(a)


class Weights(NamedTuple):
    """A cell in one direction: the factory's name, its options except initialisers, and NumPy arrays by gate.

    `x` `[D, H]`, `h` `[P, H]` and `b` `[H]` for each gate; in a convolution `x` and `h` are `[*window, in, out]`.
    `b_hn` `[H]` belongs to a GRU with `reset_after`; `peepholes` `[H]` for each gate; `projection` `[H, P]`; `carry`,
    the learned carry, with h `[P]` and for an LSTM c `[H]`; `noise`, the arguments of `dropout`.
    """

    kind: str
    options: dict[str, Any]
    x: Gates
    h: Gates
    b: Gates
    b_hn: np.ndarray | None = None
    peepholes: Gates = {}  # noqa: RUF012
    projection: np.ndarray | None = None
    carry: Gates | None = None
    noise: dict[str, Any] = {}  # noqa: RUF012

    @property
    def in_size(self) -> int:
        """D, the features of the inputs, or their channels for a convolution."""
        return next(iter(self.x.values())).shape[-2]

    @property
    def size(self) -> int:
        """The features of the outputs, or their channels for a convolution."""
        return next(iter(self.h.values())).shape[-2]


class Layer(NamedTuple):
    """A layer: one direction, forward or backwards, or two and their merge. If `residual`, y = x + layer(x)."""

    forward: Weights
    backward: Weights | None = None
    merge: str = "concat"
    residual: bool = False
    backwards: bool = False


class Part(NamedTuple):
    """A net, its params, and the number of features of its inputs."""

    net: Cell | Composite
    params: Params
    in_size: int


def weights_of(cell: Cell | Composite, params: Params, library: str) -> Weights:
    """Returns a stock cell as `Weights`. Raises ValueError for other cells, of which `library` has no equivalent."""
    factory, options = call(cell, library)
    if factory is wrappers.learned_carry:
        if not isinstance(params, wrappers.LearnedCarry):
            raise ValueError(f"`params` must be LearnedCarry for {check.short(cell)}; got {check.short(params)}")
        carry = params.carry._asdict() if hasattr(params.carry, "_asdict") else {"h": params.carry}
        carry = {name: array(f"params.carry.{name}", leaf) for name, leaf in carry.items()}
        return weights_of(options["cell"], params.params, library)._replace(carry=carry)
    kind = factory.__name__
    if _FACTORIES.get(kind) is not factory:
        raise ValueError(f"{library} has no equivalent of {check.short(cell)}")
    params = _checked(cell, params, kind, math.prod(options.get("shape", ())))
    options = {name: value for name, value in options.items() if not name.endswith("_init") and name != "forget_bias"}
    coupled = options.get("coupled")
    gates = GATES[kind][1:] if coupled else GATES[kind]
    x, h, b = (split(leaf, gates) for leaf in (params.w_x, params.w_h, params.b))
    peeping = _PEEPHOLES[1:] if coupled else _PEEPHOLES
    w_c = getattr(params, "w_c", None)
    peepholes: Gates = {} if w_c is None else dict(zip(peeping, w_c, strict=True))
    b_hn, projection = getattr(params, "b_hn", None), getattr(params, "w_p", None)
    return Weights(kind, options, x, h, b, b_hn, peepholes, projection)


def _checked(cell, params, kind, pixels):
    """Returns the params of a cell as NumPy arrays. Raises unless they have its structure and shapes."""
    if not isinstance(params, _PARAMS[kind]):
        raise ValueError(
            f"`params` must be {_PARAMS[kind].__name__} for {check.short(cell)}; got {check.short(params)}"
        )
    params = type(params)(*(None if x is None else array(f"params.{n}", x) for n, x in params._asdict().items()))
    if params.w_x.ndim < 2:
        raise ValueError(f"`params.w_x` must have two axes or more; got {list(params.w_x.shape)}")
    check.parameters(cell, params, pixels * params.w_x.shape[-2])
    return params


def children(factory: Callable, options: dict[str, Any], params: Params) -> list[tuple[Cell | Composite, Params]]:
    """Returns the nets inside a wrapper, each with its params. Raises ValueError if the params do not fit."""
    if factory is wrappers.stack:
        nets = options["cells"]
        if type(params) is not tuple or len(params) != len(nets):
            raise ValueError(f"`params` must be a tuple of {len(nets)} for a stack; got {check.short(params)}")
        return list(zip(nets, params, strict=True))
    if factory is wrappers.bidirectional:
        if not isinstance(params, wrappers.Bidirectional):
            raise ValueError(f"`params` must be Bidirectional for a bidirectional net; got {check.short(params)}")
        return list(zip((options["forward"], options["backward"] or options["forward"]), params, strict=True))
    return [(options["cell"], params)]


def plain(weights: Weights, library: str, coupled: bool = False) -> Weights:
    """Returns equivalent weights without `update_writes`, and without `coupled` unless that argument is True."""
    options, changed = dict(weights.options), weights
    pairs = [("update_writes", "z", "z")] if coupled else [("coupled", "f", "i"), ("update_writes", "z", "z")]
    for option, source, target in pairs:
        if not options.get(option):
            continue
        if options["gate"] not in _ODD:
            raise ValueError(f"{library} has no equivalent of `{option}` with the gate {check.short(options['gate'])}")
        options[option] = False
        x, h, b, peepholes = (
            {target: -gates[source], **{gate: leaf for gate, leaf in gates.items() if gate != target}} if gates else {}
            for gates in (changed.x, changed.h, changed.b, changed.peepholes)
        )
        changed = changed._replace(options=options, x=x, h=h, b=b, peepholes=peepholes)
    return changed


def only(weights: Weights, library: str, *supported: str) -> None:
    """Raises ValueError if an option is not at its default, and the library does not support it."""
    parameters = inspect.signature(_FACTORIES[weights.kind]).parameters
    for name, value in weights.options.items():
        default = parameters[name].default
        if name not in (*supported, "size") and value is not default and value != default:
            raise ValueError(f"{library} has no equivalent of `{name}={name_of(value)}` of jaxseq.{weights.kind}")
    if weights.carry is not None and "carry" not in supported:
        raise ValueError(f"{library} has no equivalent of `learned_carry`: pass the carry to it with the inputs")


def cell_of(weights: Weights) -> Part:
    """Returns the cell with its params, and with a learned carry and dropout if it has them."""
    kind, options = weights.kind, dict(weights.options)
    gates = [gate for gate in GATES[kind] if gate in weights.x]
    is_convolution = kind == "conv_lstm"
    hidden = next(iter(weights.x.values())).shape[-1]
    cell = _FACTORIES[kind](**options) if is_convolution else _FACTORIES[kind](hidden, **options)
    leaves: list[np.ndarray | None] = [join(part, gates) for part in (weights.x, weights.h, weights.b)]
    if kind == "gru":
        leaves.append(weights.b_hn)
    elif kind != "rnn":
        peeping = [gate for gate in _PEEPHOLES if gate in weights.peepholes]
        leaves.append(np.stack([weights.peepholes[gate] for gate in peeping]) if peeping else None)
        leaves += [] if is_convolution else [weights.projection]
    params: Any = _PARAMS[kind](*(None if leaf is None else jnp.asarray(leaf) for leaf in leaves))
    if weights.carry is not None:
        carry = {name: jnp.asarray(leaf) for name, leaf in weights.carry.items()}
        start = cells.LstmCarry(carry["h"], carry["c"]) if "c" in carry else carry["h"]
        cell, params = wrappers.learned_carry(cell), wrappers.LearnedCarry(params, start)
    pixels = math.prod(options["shape"]) if is_convolution else 1
    return Part(wrappers.dropout(cell, **weights.noise), params, pixels * weights.in_size)


def both(forward: Part, backward: Part, merge: str) -> Part:
    """Returns the two directions as one net."""
    if forward.in_size != backward.in_size:
        raise ValueError(f"the directions read {forward.in_size} and {backward.in_size} features")
    net = wrappers.bidirectional(forward.net, None if backward.net is forward.net else backward.net, merge=merge)
    return Part(net, wrappers.Bidirectional(forward.params, backward.params), forward.in_size)


def stacked(parts: Sequence[Part]) -> Part:
    """Returns one part unchanged, or several as a stack."""
    if len(parts) == 1:
        return parts[0]
    for place, (before, part) in enumerate(itertools.pairwise(parts)):
        if part.in_size != before.net.size:
            raise ValueError(f"layer {place + 1} reads {part.in_size} features; the one before has {before.net.size}")
    nets, params, _ = zip(*parts, strict=True)
    return Part(wrappers.stack(*nets), params, parts[0].in_size)


def net_of(layers: Sequence[Layer]) -> tuple[Cell | Composite, Params]:
    """Returns the net of the layers, which is a stack if there are several, and its params."""
    made = []
    for layer in layers:
        part = cell_of(layer.forward)
        if layer.backward is not None:
            part = both(part, cell_of(layer.backward), layer.merge)
        part = part._replace(net=wrappers.backwards(part.net)) if layer.backwards else part
        made.append(part._replace(net=wrappers.residual(part.net)) if layer.residual else part)
    net, params, _ = stacked(made)
    return net, params


def layers_of(net: Cell | Composite, params: Params, library: str) -> list[Layer]:
    """Returns the layers of a net. Raises ValueError, naming the part, if the library has no equivalent of one.

    Dropout acts only in training: it is the `noise` of the layers, which most libraries leave out.
    """
    factory, options = call(net, library)
    if factory not in (wrappers.stack, wrappers.dropout, wrappers.residual, wrappers.backwards, wrappers.bidirectional):
        return [Layer(weights_of(net, params, library))]
    parts = [layers_of(*part, library) for part in children(factory, options, params)]
    if factory is wrappers.stack:
        return [layer for part in parts for layer in part]
    if factory is wrappers.dropout:
        return _with_noise(parts[0], {name: rate for name, rate in options.items() if name != "cell" and rate})
    if any(len(part) != 1 or not _is_simple(part[0]) for part in parts):
        around = factory is wrappers.residual and len(parts[0]) == 1 and not parts[0][0].residual
        if not around:
            raise ValueError(f"{library} has no equivalent of `{factory.__name__}` around a net, only around a cell")
    if factory is wrappers.bidirectional:
        return [Layer(parts[0][0].forward, parts[1][0].forward, options["merge"])]
    (layer,) = parts[0]
    return [layer._replace(residual=True) if factory is wrappers.residual else layer._replace(backwards=True)]


def _with_noise(layers, noise):
    """Returns the layers with dropout around all of them: of the first one's inputs and of the last one's outputs."""
    for place, unseen in ((0, "outputs"), (-1, "inputs")):
        layer = layers[place]
        seen = noise if len(layers) == 1 else {name: rate for name, rate in noise.items() if name != unseen}
        forward, backward = (
            side and side._replace(noise={**side.noise, **seen}) for side in (layer.forward, layer.backward)
        )
        layers[place] = layer._replace(forward=forward, backward=backward)
    return layers


def _is_simple(layer):
    return layer.backward is None and not layer.residual and not layer.backwards


def call(net: Cell | Composite, library: str) -> tuple[Callable, dict[str, Any]]:
    """Returns the factory of a net and its options. Raises ValueError if no factory made it."""
    check.net(net, "net")
    made = call_of(net)
    if made is None:
        raise ValueError(f"{library} has no equivalent of a net that no factory of jaxseq made; got {check.short(net)}")
    return made


def name_of(value: Any) -> str:
    """Returns the text of an option's value in an error."""
    return getattr(value, "__name__", repr(value))
