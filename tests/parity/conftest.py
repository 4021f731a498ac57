"""Peers that are too heavy for `make test`: each file is collected where its peer is installed."""

import importlib.util
import os

PEERS = {"test_torch.py": "torch", "test_keras.py": "keras"}
collect_ignore = [file for file, peer in PEERS.items() if importlib.util.find_spec(peer) is None]

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported
