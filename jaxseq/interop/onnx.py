"""ONNX: reads RNN, LSTM and GRU nodes from a file, and writes them to one."""

import os
from pathlib import Path
from typing import Any

from jaxseq import check
from jaxseq.interop import _onnx_read, _onnx_write
from jaxseq.typing import Cell, Composite, Params


def load(path: str | os.PathLike, *, node: str | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the time-major net of the recurrent nodes of an ONNX file, and its params.

    Nodes that follow each other become a stack. Nodes between them that only move axes are skipped. Concat, Sum, Add,
    Mean and Mul combine two directions, or add a residual connection. A constant initial state becomes a learned carry.
    If the initial state is an input, pass it to `unroll` as the carry. Pass `sequence_lens` as the mask.

    Args:
      path: the path of the file.
      node: the name of one recurrent node, or of its first output if it has no name. None: all recurrent nodes.

    Raises:
      ValueError: the file is not an ONNX file or is damaged, or jaxseq has no equivalent of a node or an option. The
        message names it.
      OSError: it cannot be read.
    """
    import onnx  # pyright: ignore[reportMissingImports]

    path = check.path("path", path)
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
        onnx.load_external_data_for_model(model, str(Path(path).parent))
    except Exception as error:  # protobuf raises many kinds of errors for damaged files
        raise ValueError(f"{path} is not an ONNX file, or is damaged: {check.short(error)}") from None
    try:
        net, params, _ = _onnx_read.read(model.graph, node)
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {check.short(error)}") from None
    return net, params


def export(
    net: Cell | Composite, params: Params, path: str | os.PathLike, *, lengths: bool = False, carry: bool = False
) -> None:
    """Writes a net as one ONNX file of standard operators, for any T and B.

    Its input is `xs` `[T, B, D]`. Its outputs are `ys` `[T, B, H]` and the last carries, `[B, H]` each. Their names are
    `last.h`, or `last.0.forward.h` and so on, by their paths in the carry.

    Args:
      net: a net of `rnn`, `lstm`, `gru`, `stack`, `bidirectional`, `backwards`, `residual`, `learned_carry`. Dropout is
        left out.
      params: its params.
      path: the path of the file.
      lengths: True adds an input `lengths`, int32 `[B]`, at least 1. Later steps of a row are padding.
      carry: True adds the initial carry as inputs, `carry.h` and so on. A causal net then runs one step with T = 1.

    Raises:
      ValueError: ONNX has no equivalent of an option. The message names it.
      OSError: it cannot be written.
    """
    check.switch("lengths", lengths)
    check.switch("carry", carry)
    path = check.path("path", path)
    model: Any = _onnx_write.model(net, params, lengths, carry)
    path.write_bytes(model.SerializeToString())


def export_model(model: Any, path: str | os.PathLike, *, lengths: bool = False, carry: bool = False) -> None:
    """Writes a model of `jaxseq.nn` as one batch-major ONNX file of standard operators, for any T and B.

    Its input is `ids`, int64 `[B, T]`, if the model has a vocabulary, else `xs` `[B, T, D]`. Its outputs are what the
    model returns, `logits` or the head's `parameters`, and the last carries as in `export`, `last.recurrent.h` and so
    on.

    Args:
      model: an `nn.SequenceClassifier`, `SequenceTagger`, `LanguageModel` or `Forecaster` of a net as in `export`.
      path: the path of the file.
      lengths: True adds an input `lengths`, int32 `[B]`, at least 1.
      carry: True adds the initial carry as inputs. A language model then runs one step with T = 1.

    Raises:
      TypeError, ValueError: it is another model, or ONNX has no equivalent of a part of it. The message names it.
      OSError: it cannot be written.
    """
    from jaxseq.interop import _onnx_models

    check.switch("lengths", lengths)
    check.switch("carry", carry)
    path = check.path("path", path)
    path.write_bytes(_onnx_models.model(model, lengths, carry).SerializeToString())
