"""Weights from and to other libraries, one module per library. A library is imported when its module is first used.

Each import returns `(net, params)`, for `jaxseq.unroll`, and each export takes them. An option without an equivalent in
the other library raises an error that names it.
"""

from jaxseq.interop import equinox as equinox
from jaxseq.interop import flax as flax
from jaxseq.interop import haiku as haiku
from jaxseq.interop import huggingface as huggingface
from jaxseq.interop import keras as keras
from jaxseq.interop import onnx as onnx
from jaxseq.interop import safetensors as safetensors
from jaxseq.interop import torch as torch

__all__ = ["equinox", "flax", "haiku", "huggingface", "keras", "onnx", "safetensors", "torch"]
