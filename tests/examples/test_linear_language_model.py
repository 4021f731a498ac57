"""Linear recurrences next to an LSTM: what a step takes, and the example end to end."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from examples.linear_language_model import NETS, main
from examples.shared.timed_steps import Run, least_seconds
from jaxseq import train


def test_the_least_time_of_a_step_is_that_after_the_first_round():
    """The first compiles; a clock that is read before and after each step."""
    times = iter([0, 1, 1, 3, 10, 14, 14, 19, 20, 23, 30, 37])  # 1 and 2, then 4 and 5, then 3 and 7
    optimizer = optax.sgd(1.0)
    step = train.make_step(lambda params, batch, key: (jnp.sum(params), {}), optimizer)
    run = Run(step, lambda: train.init(jnp.zeros(()), optimizer, jax.random.key(0)))
    assert least_seconds({"a": run, "b": run}, {}, 2, times.__next__) == {"a": 3, "b": 5}
    assert next(times, None) is None


@pytest.mark.learn
def test_smoke_run_learns(tmp_path, capsys):
    main(["--smoke", "--out", str(tmp_path)])
    rows = re.findall(r"^(\S+) +(\d\.\d{3}) +(\d\.\d{3}) +60 ", capsys.readouterr().out, re.M)
    assert [name for name, *_ in rows] == list(NETS)
    assert all(float(test) < 1.3 for *_, test in rows)  # a language of words whose order has rules; 3.5 by chance
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {*NETS, "curves.png", "seconds.json"}
