"""Peers that are too heavy for `make test`: each file is collected where its peer is installed."""

import importlib.util

collect_ignore = ["test_torch.py"] if importlib.util.find_spec("torch") is None else []
