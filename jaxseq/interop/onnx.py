"""ONNX: RNN, LSTM and GRU nodes, read from a file and written to one."""

import os
from pathlib import Path
from typing import Any

from jaxseq import check
from jaxseq.interop import _onnx_read, _onnx_write
from jaxseq.typing import Cell, Composite, Params


def load(path: str | os.PathLike, *, node: str | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the net of the recurrent nodes of an ONNX file, time-major, and its params.

    Nodes that follow each other are a stack; what moves axes between them is passed over, and Concat, Sum, Add, Mean
    and Mul put two directions, or a residual connection, together. An initial state that is a constant becomes a
    learned carry; one that is an input is the carry that `unroll` takes, as `sequence_lens` is its mask.

    Args:
      path: of the file.
      node: the name of one recurrent node, or of its first output where it has none; None: all.

    Raises:
      ValueError: it is no ONNX file, or a damaged one; a node or an option that jaxseq has no equal of, which is named.
      OSError: it cannot be read.
    """
    import onnx  # pyright: ignore[reportMissingImports]

    path = check.path("path", path)
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
        onnx.load_external_data_for_model(model, str(Path(path).parent))
    except Exception as error:  # what protobuf raises of damaged files is of any kind
        raise ValueError(f"{path} is no ONNX file, or a damaged one: {check.short(error)}") from None
    try:
        net, params, _ = _onnx_read.read(model.graph, node)
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {check.short(error)}") from None
    return net, params


def export(
    net: Cell | Composite, params: Params, path: str | os.PathLike, *, lengths: bool = False, carry: bool = False
) -> None:
    """Writes a net as one ONNX file of standard operators, of any T and B.

    Its input is `xs` `[T, B, D]`, its outputs `ys` `[T, B, H]` and the last carries, `last.h`, or `last.0.forward.h`
    and so on, by the paths in the carry, `[B, H]` each.

    Args:
      net: of `rnn`, `lstm`, `gru`, `stack`, `bidirectional`, `backwards`, `residual`, `learned_carry`; dropout is left
        out.
      params: its params.
      path: of the file.
      lengths: True: a second input `lengths`, int32 `[B]`, of at least 1: steps from there on are no steps.
      carry: True: the carry to start from is an input too, `carry.h` and so on; a causal net of T = 1 is a step.

    Raises:
      ValueError: ONNX has no equal of an option, which is named.
      OSError: it cannot be written.
    """
    check.switch("lengths", lengths)
    check.switch("carry", carry)
    path = check.path("path", path)
    model: Any = _onnx_write.model(net, params, lengths, carry)
    path.write_bytes(model.SerializeToString())


def export_model(model: Any, path: str | os.PathLike, *, lengths: bool = False, carry: bool = False) -> None:
    """Writes a model of `jaxseq.nn` as one ONNX file of standard operators, batch-major, of any T and B.

    Its input is `ids`, int64 `[B, T]`, where the model has a vocabulary, else `xs` `[B, T, D]`; its outputs are what
    the model returns, `logits` or the head's `parameters`, and the last carries as of `export`, `last.recurrent.h` and
    so on.

    Args:
      model: an `nn.SequenceClassifier`, `SequenceTagger`, `LanguageModel` or `Forecaster` of a net as for `export`.
      path: of the file.
      lengths: True: another input `lengths`, int32 `[B]`, of at least 1.
      carry: True: the carry to start from is an input too: with T = 1 that is the step of a language model.

    Raises:
      TypeError, ValueError: another model, or something in it that ONNX has no equal of, which is named.
      OSError: it cannot be written.
    """
    from jaxseq.interop import _onnx_models

    check.switch("lengths", lengths)
    check.switch("carry", carry)
    path = check.path("path", path)
    path.write_bytes(_onnx_models.model(model, lengths, carry).SerializeToString())
