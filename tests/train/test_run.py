"""What a run says of itself, and that another is refused its checkpoints."""

import math
import warnings
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import train
from tests.untyped import untyped

OPTIMIZER = optax.sgd(0.1)
STEP = train.make_step(lambda params, batch, key: (jnp.sum((params - batch) ** 2), {}), OPTIMIZER)
BATCHES = [jnp.ones(2), jnp.zeros(2)]


def run(folder, settings=None, epochs=1):
    state = train.init(jnp.zeros(2), OPTIMIZER, jax.random.key(0))
    checkpoints = train.Checkpoints(folder, settings=settings)
    return train.fit(STEP, state, BATCHES, epochs=epochs, checkpoints=checkpoints)


@pytest.mark.some(4)
@pytest.mark.parametrize(
    "settings",
    [None, 3, "a", [1, "b"], {}, {"rate": 0.1, "sizes": [4, 8], "none": None}, {"clip": math.nan, "x": [math.inf]}],
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
        ({"clip": math.nan}, {"clip": 1.0}, r"settings\['clip'\]: nan before, 1.0 now"),
        (None, {"rate": 0.1}, r"settings\['rate'\]: None before, 0.1 now"),
        ({"rate": 0.1}, {"seed": 1}, r"settings\['seed'\]: None before, 1 now; settings\['rate'\]: 0.1 before, None"),
        (3, 4, "settings: 3 before, 4 now"),
        ([1, 2], [1, 3], r"settings: \[1, 2\] before, \[1, 3\] now"),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path, before, now, message):
    run(tmp_path, before)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, now, epochs=2)


def test_settings_are_what_json_holds(tmp_path):
    with pytest.raises(
        TypeError,
        match=r"`checkpoints\.settings\['rate'\]` must be a value that JSON restores exactly; got function",
    ):
        run(tmp_path, {"rate": lambda step: 0.1})
    with pytest.raises(TypeError, match=r"`checkpoints\.settings\['sizes'\]` .* got tuple\. Give a list"):
        run(tmp_path, {"sizes": (4, 8)})


def changed(**change):
    """A run like that of `run`, but for what is changed; as the arguments of `fit`."""
    rate, weight, seed, batches = ({"rate": 0.1, "weight": 1.0, "seed": 0, "batches": BATCHES} | change).values()
    optimizer = optax.sgd(rate)
    step = train.make_step(lambda params, batch, key: (weight * jnp.sum((params - batch) ** 2), {}), optimizer)
    return step, train.init(jnp.zeros(2), optimizer, jax.random.key(seed)), batches


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"rate": 0.2}, "another loss, optimizer or learning rate"),
        ({"weight": 2.0}, "another loss, optimizer or learning rate"),
        ({"seed": 1}, "other initial params, optimizer state, key or carry"),
        ({"batches": [jnp.ones(2) / 2, jnp.zeros(2)]}, "another first batch"),
        (
            {"seed": 1, "rate": 0.2},
            "another loss, optimizer or learning rate, and with other initial params, optimizer state, key or carry",
        ),
    ],
)
def test_a_run_that_is_another_is_told(tmp_path, change, told):
    """Of the same shapes, which cannot be refused; once only, since from then on it is the other."""
    checkpoints = train.Checkpoints(tmp_path)
    train.fit(*changed(), epochs=1, checkpoints=checkpoints)
    for ends, epochs in ((True, 1), (False, 2), (False, 3)):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = train.fit(*changed(**change), epochs=epochs, checkpoints=checkpoints)
        assert len(result.history) == epochs
        text = "\n".join(str(warning.message) for warning in warned)
        assert ("has ended, after 2 steps of 2: nothing is trained" in text) == ends
        assert (f"was started with {told}" in text) == (told is not None and epochs < 3)
        assert ("folder of its own, or this one more `epochs`." in text) == (ends and told is None)
        used = "It resumes from its checkpoint with the loss, optimizer, learning rate and batches of this call"
        assert (used in text) == (told is not None and epochs == 2)
        assert len(warned) == (ends or (told is not None and epochs < 3))


@pytest.mark.parametrize("other", [optax.sgd(0.1), optax.adam(optax.constant_schedule(0.1))], ids=["sgd", "schedule"])
def test_an_optimizer_of_other_parts_is_refused(tmp_path, other):
    loss = lambda params, batch, key: (jnp.sum((params - batch) ** 2), {})

    def run(folder, optimizer, params):
        state = train.init(params, optimizer, jax.random.key(0))
        checkpoints = train.Checkpoints(folder)
        return train.fit(train.make_step(loss, optimizer), state, BATCHES, epochs=1, checkpoints=checkpoints)

    first = run(tmp_path / "run", optax.adam(0.1), jnp.zeros(2))
    with pytest.raises(
        ValueError, match="was started with another optimizer: its state has another structure"
    ) as raised:
        run(tmp_path / "run", other, jnp.zeros(2))
    assert len(str(raised.value)) < 400
    params = train.load(tmp_path / "run", jnp.zeros(2), part="state/params").tree
    assert jnp.array_equal(params, first.state.params)
    run(tmp_path / "other", other, params)


def test_programs_of_two_versions_of_jax_are_not_compared(tmp_path, monkeypatch):
    checkpoints = train.Checkpoints(tmp_path)
    train.fit(*changed(), epochs=1, checkpoints=checkpoints)
    monkeypatch.setattr(jax, "__version__", "99")
    train.fit(*changed(rate=0.2), epochs=2, checkpoints=checkpoints)


@pytest.mark.parametrize("info", [None, [1], {"position": 3}, {"settings": {}, "history": []}])
def test_what_save_stored_is_no_run(tmp_path, info):
    train.save(tmp_path, jnp.zeros(2), info)
    with pytest.raises(
        ValueError, match=r"holds a version that train\.save or another version of fit has stored\. Give the run a fo"
    ):
        run(tmp_path)
    assert train.load(tmp_path, jnp.zeros(2)).info == info


def test_a_file_among_the_checkpoints_is_named(tmp_path):
    run(tmp_path)
    (tmp_path / "000000000007").write_text("mine")
    with pytest.raises(FileExistsError, match="000000000007 has the name of a checkpoint but is none"):
        run(tmp_path, epochs=2)


def test_a_manifest_that_is_none_costs_steps_only(tmp_path):
    run(tmp_path, epochs=2)
    (tmp_path / "000000000004" / "manifest.json").write_text("[]")
    with pytest.warns(RuntimeWarning, match="000000000004 is passed over: its manifest is not valid"):
        result = run(tmp_path, epochs=2)
    assert [row["step"] for row in result.history] == [2, 4]


def test_one_run_at_a_time_trains_in_a_folder(tmp_path):
    def other(fit):
        with pytest.raises(BlockingIOError, match="another process writes to"):
            run(tmp_path)
        with pytest.raises(BlockingIOError, match="another process writes to"):
            train.save(tmp_path, jnp.zeros(2))

    state = train.init(jnp.zeros(2), OPTIMIZER, jax.random.key(0))
    train.fit(STEP, state, BATCHES, epochs=1, callbacks=[other], checkpoints=train.Checkpoints(tmp_path))
    assert len(run(tmp_path, epochs=2).history) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000002", "000000000004"]


def test_checkpoints_are_of_the_size_of_what_they_hold(tmp_path):
    """State and moments, three times the params; the best ones beside it only where they are not the last."""
    noise = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)  # which does not compress
    optimizer, scores = optax.adam(1e-3), iter([3.0, 2.0, 1.0, 5.0])
    step = train.make_step(lambda params, batch, key: (jnp.sum((params * batch + params) ** 2), {}), optimizer)
    sizes = []

    def measure(fit):
        sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) / noise.nbytes)

    for epochs in (1, 2, 3, 4):
        result = train.fit(
            step,
            train.init(noise, optimizer, jax.random.key(0)),
            [noise],
            epochs=epochs,
            validate=lambda params: {"loss": next(scores)},
            checkpoints=train.Checkpoints(tmp_path),
        )
        measure(result)
    assert [round(size) for size in sizes] == [3, 6, 6, 7]
    last = train.load(tmp_path, jnp.zeros(noise.shape), part="state/params").tree
    np.testing.assert_array_equal(last, result.state.params)
    np.testing.assert_array_equal(train.load(tmp_path, last, part="best").tree, result.params)
    assert not np.array_equal(last, result.params)


def test_validation_that_is_never_finite_has_no_best(tmp_path):
    """The params are the last then, and it is said; the first row that is finite is the best."""
    for values, better, row in (
        ([math.nan, math.nan], "lower", None),
        ([math.nan, math.inf], "lower", None),
        ([math.nan, -math.inf], "higher", None),
        ([math.nan, 2.0, 3.0], "lower", 1),
        ([math.inf, -math.inf, 0.0], "lower", 1),
    ):
        given, seen = iter(values), []

        def validate(params, given=given, seen=seen):
            seen.append(params.copy())
            return {"loss": next(given)}

        expect = pytest.warns(
            RuntimeWarning, match="'loss' of `validate` was not finite in any row; the returned params"
        )
        state = train.init(jnp.zeros(2), OPTIMIZER, jax.random.key(0))
        folder = train.Checkpoints(tmp_path / "_".join(map(str, values)))
        for epochs in (1, len(values)):  # gone on with from a checkpoint without a best one
            with expect if row is None or epochs == 1 else nullcontext():
                result = train.fit(
                    STEP, state, BATCHES, epochs=epochs, validate=validate, better=untyped(better), checkpoints=folder
                )
            state = train.init(jnp.zeros(2), OPTIMIZER, jax.random.key(0))
        np.testing.assert_array_equal(result.params, seen[-1 if row is None else row])
