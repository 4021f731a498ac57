"""Examples are run twice by most tests, and several share programs: each is compiled once."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

CACHE = {"jax_compilation_cache_dir": None, "jax_persistent_cache_min_compile_time_secs": 0}


@pytest.fixture(autouse=True, scope="package")
def _compile_once(tmp_path_factory):
    before = {name: getattr(jax.config, name) for name in CACHE}
    folder = before["jax_compilation_cache_dir"] or str(tmp_path_factory.mktemp("programs"))
    for name, value in (CACHE | {"jax_compilation_cache_dir": folder}).items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
