"""The residual blocks, each small, with its plain loop."""

from functools import partial
from typing import Any, NamedTuple

from jaxseq import nn
from tests.nn import plain_blocks

H = 4


class Entry(NamedTuple):
    make: Any  # (rngs=, ...) -> the block
    plain: Any  # (params, xs) -> ys


def _entry(block, plain, own, shared):
    return Entry(partial(block, H, **own, **shared), partial(plain, **shared))


BLOCKS = {
    "griffin": _entry(nn.GriffinBlock, plain_blocks.griffin, {"inner": 6, "hidden": 5, "window": 3}, {"heads": 2}),
    "mamba": _entry(nn.MambaBlock, plain_blocks.mamba, {"inner": 6, "state": 3, "rank": 2}, {}),
    "mamba2": _entry(nn.Mamba2Block, plain_blocks.mamba2, {}, {"heads": 4, "groups": 2, "state": 3}),
    "gated_delta_net": _entry(
        nn.GatedDeltaNetBlock,
        plain_blocks.gated_delta_net,
        {"value_size": 2, "window": 2},
        {"heads": 4, "key_heads": 2, "key_size": 3},
    ),
    "mlstm": _entry(nn.MlstmBlock, plain_blocks.mlstm, {"block": 2}, {"heads": 2}),
    "slstm": _entry(nn.SlstmBlock, plain_blocks.slstm, {}, {"heads": 2}),
    "xlstm": _entry(
        nn.XlstmBlock, plain_blocks.xlstm, {"inner": 6, "hidden": 5}, {"heads": 2, "key_size": 2, "cap": 2.0}
    ),
}


def all_blocks(rngs, **options):
    """One of each."""
    return [entry.make(rngs=rngs, **options) for entry in BLOCKS.values()]
