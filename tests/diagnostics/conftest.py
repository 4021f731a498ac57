import matplotlib
import pytest


@pytest.fixture
def plt():
    """Matplotlib's pyplot without a window; the figures of a test are closed after it."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")
