"""Examples train: their programs are optimised in full."""

import os

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _optimise():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", os.environ.get("JAXSEQ_LAWS") != "full")
