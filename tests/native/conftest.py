import pytest

from jaxseq.kernels.native import _machine


@pytest.fixture(autouse=True)
def _optimised(monkeypatch):
    """The code of native loops is optimised here, as users run it; XLA compiles fast, as in all tests."""
    monkeypatch.setattr(_machine, "is_optimised", lambda: True)
