"""What a run says of itself, and that another is refused its checkpoints."""

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxseq import train

OPTIMIZER = optax.sgd(0.1)
STEP = train.make_step(lambda params, batch, key: (jnp.sum((params - batch) ** 2), {}), OPTIMIZER)
BATCHES = [jnp.ones(2), jnp.zeros(2)]


def run(folder, settings=None, epochs=1):
    state = train.init(jnp.zeros(2), OPTIMIZER, jax.random.key(0))
    checkpoints = train.Checkpoints(folder, settings=settings)
    return train.fit(STEP, state, BATCHES, epochs=epochs, checkpoints=checkpoints)


@pytest.mark.parametrize(
    "settings", [None, 3, "a", [1, "b"], {}, {"rate": 0.1, "sizes": (4, 8), "none": None}, {1: 2.5, "deep": {"x": [1]}}]
)
def test_a_run_with_the_same_settings_goes_on(tmp_path, settings):
    assert len(run(tmp_path, settings).history) == 1
    assert len(run(tmp_path, settings, epochs=3).history) == 3


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            {"rate": 0.1, "size": 4},
            {"rate": 0.2, "size": 4},
            r"is another: settings\['rate'\]: 0.1 before, 0.2 now\. G",
        ),
        ({"rate": 0.1}, None, r"settings\['rate'\]: 0.1 before, None now"),
        (None, {"rate": 0.1}, r"settings\['rate'\]: None before, 0.1 now"),
        ({"rate": 0.1}, {"seed": 1}, r"settings\['seed'\]: None before, 1 now; settings\['rate'\]: 0.1 before, None"),
        (3, 4, "settings: 3 before, 4 now"),
        ([1, 2], (1, 3), r"settings: \[1, 2\] before, \[1, 3\] now"),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path, before, now, message):
    run(tmp_path, before)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, now, epochs=2)


def test_settings_are_what_json_holds(tmp_path):
    with pytest.raises(TypeError, match=r"`checkpoints\.settings\['rate'\]` must be what JSON holds; got function"):
        run(tmp_path, {"rate": lambda step: 0.1})
