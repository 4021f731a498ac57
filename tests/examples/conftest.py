"""What all examples have in common."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Examples are run twice, to see that the second run reads what the first has made: `fit` says so, rightly."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:the run in .* has ended:RuntimeWarning"))
