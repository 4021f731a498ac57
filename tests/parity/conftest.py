"""Peers that are too heavy for `make test`: each file is collected where its peer is installed."""

import importlib.util
import os

PEERS = {
    "test_crfsuite.py": "pycrfsuite",
    "test_contenders.py": "torch",
    "test_ctc.py": "torch",
    "test_equinox.py": "equinox",
    "test_generation.py": "torch",
    "test_haiku.py": "haiku",
    "test_hmmlearn.py": "hmmlearn",
    "test_keras.py": "keras",
    "test_keras_files.py": "keras",
    "test_statsmodels.py": "statsmodels",
    "test_onnx.py": "onnxruntime",
    "test_onnx_models.py": "onnxruntime",
    "test_onnx_nodes.py": "onnxruntime",
    "test_torch.py": "torch",
    "test_torch_attention.py": "torch",
    "test_torch_transformer.py": "torch",
    "test_transformers.py": "transformers",
}
collect_ignore = [file for file, peer in PEERS.items() if importlib.util.find_spec(peer) is None]

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
