"""The loop around the step: the history is that of a plain loop, and a run that is resumed is the run."""

import csv
import functools
import json
import os
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import data, train
from jaxseq.train import _progress, metrics
from tests.untyped import untyped

OPTIMIZER = optax.adam(0.05)
N, BATCH = 22, 4
RNG = np.random.default_rng(0)
ARRAYS = {"x": RNG.normal(size=(N, 3)).astype(np.float32), "y": RNG.normal(size=N).astype(np.float32)}


def loss_fn(params, batch, key):
    error = batch["x"] @ params["w"] - batch["y"]
    if key is not None:
        error += 0.01 * jax.random.normal(key, error.shape)
    mean = metrics.mean(error**2, mask=batch.get("real"))
    return mean, {
        "mae": metrics.mean(jnp.abs(error), mask=batch.get("real")),
        "first": error[0],
        "parts": {"w": params["w"][0]},
    }


STEP = train.make_step(loss_fn, OPTIMIZER)
SKIPPING = train.make_step(loss_fn, OPTIMIZER, nonfinite="skip")
LOADER = data.batches(ARRAYS, BATCH, seed=0, last="pad")
VALIDATE = train.evaluator(loss_fn, data.batches(ARRAYS, 5, last="pad"))


def start():
    return train.init({"w": jnp.zeros(3)}, OPTIMIZER, jax.random.key(1))


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("every", [None, 4])
def test_the_history_is_that_of_a_plain_loop(every):
    state, rows, seen = start(), [], []
    batches = [batch for epoch in range(3) for batch in LOADER.epoch(epoch)]
    for number, batch in enumerate(batches, start=1):
        state, report = STEP(state, batch)
        seen.append((report, batch["real"].sum()))
        if number % (every or 6) == 0 or number == len(batches):
            weights = [int(weight) for _, weight in seen]
            rows.append(
                {
                    "step": number,
                    "epoch": number / 6,
                    "loss": np.average([report.loss for report, _ in seen], weights=weights),
                    "gradient_norm": np.mean([report.gradient_norm for report, _ in seen]),
                    "mae": np.average([report.aux["mae"].value for report, _ in seen], weights=weights),
                    "first": np.mean([report.aux["first"] for report, _ in seen]),
                    "parts/w": np.mean([report.aux["parts"]["w"] for report, _ in seen]),
                    "skipped": 0,
                }
            )
            seen = []
    result = train.fit(STEP, start(), LOADER, epochs=3, every=every)
    chex.assert_trees_all_equal(result.state._replace(key=None), state._replace(key=None))
    chex.assert_trees_all_equal(result.params, state.params)
    assert len(result.history) == len(rows)
    for row, plain in zip(without_time(result.history), rows, strict=True):
        assert row.keys() == plain.keys()
        np.testing.assert_allclose(list(row.values()), [plain[name] for name in row], rtol=1e-5)


def test_validation_weighs_what_is_real_and_draws_nothing():
    params = {"w": jnp.array([0.1, -0.2, 0.3])}
    error = ARRAYS["x"] @ np.asarray(params["w"]) - ARRAYS["y"]
    found = VALIDATE(params)
    np.testing.assert_allclose([found["loss"], found["mae"]], [np.mean(error**2), np.mean(abs(error))], rtol=1e-6)
    assert found == VALIDATE(params)


def test_validation_carries():
    def carried(params, batch, key, carry):
        return carry + batch, {"carry": carry}, carry + batch

    validate = train.evaluator(carried, [np.float32(1), np.float32(2), np.float32(4)], carry=jnp.float32(0))
    for _ in range(2):
        assert validate({}) == {"loss": pytest.approx((1 + 3 + 7) / 3), "carry": pytest.approx((0 + 1 + 3) / 3)}


@pytest.mark.parametrize(("better", "kept"), [("lower", 1), ("higher", 2)])
def test_the_best_params_are_kept_and_patience_ends_the_run(better, kept):
    losses, seen = iter([3.0, 1.0, 5.0, 2.0, np.nan, 0.0]), []

    def validate(params):
        seen.append(params["w"].copy())
        return {"loss": next(losses)}

    result = train.fit(STEP, start(), LOADER, epochs=6, validate=validate, better=better, patience=2)
    rows = len(result.history)
    assert rows == (4 if better == "lower" else 5)
    np.testing.assert_array_equal(result.params["w"], seen[kept])
    np.testing.assert_array_equal(result.state.params["w"], seen[-1])
    assert [row["validation/loss"] for row in result.history][:4] == [3, 1, 5, 2]


@pytest.mark.parametrize("monitor", ["f1", "validation/f1"])
def test_a_number_of_ones_own_is_monitored(monitor):
    scores = iter([1.0, 3.0, 2.0])
    result = train.fit(
        STEP,
        start(),
        LOADER,
        epochs=3,
        validate=lambda params: {"f1": next(scores), "w": params["w"][0]},
        monitor=monitor,
        better="higher",
    )
    assert result.params["w"][0] == np.float32(result.history[1]["validation/w"])


@functools.cache
def whole_run(every):
    return train.fit(STEP, start(), LOADER, epochs=2, every=every, validate=VALIDATE)


@pytest.mark.some(2)
@pytest.mark.parametrize(("every", "until"), [(None, 1), (None, 7), (4, 2), (4, 10), (5, 1), (5, 2), (5, 7)])
def test_a_run_that_is_gone_on_with_is_the_run(tmp_path, every, until):
    """Interrupted after any step, within an epoch and a row."""
    options = {"epochs": 2, "every": every, "validate": VALIDATE}
    expected = whole_run(every)
    steps = iter(range(until))

    def interrupted(state, batch):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return STEP(state, batch)

    checkpoints = train.Checkpoints(tmp_path, every=1)
    with pytest.raises(KeyboardInterrupt):
        train.fit(interrupted, start(), LOADER, checkpoints=checkpoints, **options)
    counted = []

    def counting(state, batch):
        counted.append(1)
        return STEP(state, batch)

    result = train.fit(counting, start(), LOADER, checkpoints=checkpoints, **options)
    assert len(counted) - (until % (every or 6) != 0) == 12 - until  # one call tells the shapes of the open sums
    chex.assert_trees_all_equal(result.state._replace(key=None), expected.state._replace(key=None))
    chex.assert_trees_all_equal(result.params, expected.params)
    assert without_time(result.history) == without_time(expected.history)
    seconds = [row["seconds"] for row in result.history]
    assert seconds == sorted(seconds)


def test_a_run_that_has_ended_is_returned_and_may_go_on_for_longer(tmp_path):
    checkpoints = train.Checkpoints(tmp_path)
    first = train.fit(STEP, start(), LOADER, epochs=2, checkpoints=checkpoints)
    for epochs, told in ((2, "after 12 steps of 12"), (1, "after 12 steps of 6")):
        with pytest.warns(
            RuntimeWarning, match=f"has ended, {told}: nothing is trained, and its result is returned"
        ) as w:
            again = train.fit(untyped(lambda *_: 1 / 0), start(), LOADER, epochs=epochs, checkpoints=checkpoints)
        assert w[0].filename == __file__
        assert again.history == first.history
    longer = train.fit(STEP, start(), LOADER, epochs=3, checkpoints=checkpoints)
    chex.assert_trees_all_equal(longer.params, train.fit(STEP, start(), LOADER, epochs=3).params)
    validations = iter([1.0, 2.0])
    patient = {"epochs": 5, "validate": lambda params: {"loss": next(validations)}, "patience": 1}
    folder = train.Checkpoints(tmp_path / "patient")
    train.fit(STEP, start(), LOADER, checkpoints=folder, **patient)
    with pytest.warns(
        RuntimeWarning, match="has ended, since no row was better than one 1 before.* one more `patience`"
    ):
        assert len(train.fit(STEP, start(), LOADER, checkpoints=folder, **patient).history) == 2
    stopping = {"epochs": 5, "callbacks": [lambda fit: True], "checkpoints": train.Checkpoints(tmp_path / "stopped")}
    train.fit(STEP, start(), LOADER, **stopping)
    with pytest.warns(RuntimeWarning, match=r"has ended, by a callback: .* Give another run a folder of its own\.$"):
        assert len(train.fit(STEP, start(), LOADER, **stopping).history) == 1


def test_a_torn_checkpoint_costs_steps_not_bits(tmp_path):
    checkpoints = train.Checkpoints(tmp_path, every=2, keep=3)
    expected = train.fit(STEP, start(), LOADER, epochs=1, checkpoints=checkpoints)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{step:012d}" for step in (2, 4, 6)]
    (tmp_path / "000000000006" / "info.json").write_text("{}")
    with pytest.warns(RuntimeWarning, match="000000000006 is passed over: info.json is not as it was written"):
        result = train.fit(STEP, start(), LOADER, epochs=1, checkpoints=checkpoints)
    chex.assert_trees_all_equal(result.params, expected.params)


def test_another_runs_checkpoints_are_refused(tmp_path):
    checkpoints = train.Checkpoints(tmp_path)
    train.fit(STEP, start(), LOADER, epochs=1, checkpoints=checkpoints)
    with pytest.raises(ValueError, match=r"is another: batches an epoch: 6 before, 11 now\. Give another run a folder"):
        train.fit(STEP, start(), data.batches(ARRAYS, 2), epochs=1, checkpoints=checkpoints)
    other = train.init({"w": jnp.zeros(4)}, OPTIMIZER, jax.random.key(1))
    with pytest.raises(ValueError, match=r"is another: .*\['w'\] is float32 \(\d+,\), this run has float32 \(4,\)"):
        train.fit(STEP, other, LOADER, epochs=1, checkpoints=checkpoints)


def test_an_aux_that_no_row_can_tell_is_refused_at_the_first_step():
    steps = []
    step = train.make_step(lambda params, batch, key: (jnp.sum(params["w"] ** 2), {"vec": params["w"]}), OPTIMIZER)

    def counting(state, batch):
        steps.append(1)
        return step(state, batch)

    with pytest.raises(
        TypeError, match=r"`aux\['vec'\]` must be a metric or a scalar to be reported; got float32 \(\d+,\)"
    ):
        train.fit(counting, start(), LOADER, epochs=1)
    assert len(steps) == 1


def spoilt(at, value):
    batches = list(LOADER.epoch(0))
    batches[at] = {**batches[at], "y": np.full(BATCH, value, np.float32)}
    return batches


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stops_the_run_and_is_told(value):
    batches = spoilt(3, value)
    with pytest.raises(
        train.NonFiniteError,
        match=r"not finite at step 9 \(epoch 0, batch 3\): loss (nan|inf), gradient norm nan, in params\['w'\]; "
        r"NaN or infinity stands in batch\['y'\]$",
    ) as raised:
        train.fit(STEP, train.fit(STEP, start(), LOADER, epochs=1).state, [*batches], epochs=1)
    error = raised.value
    assert (error.step, error.epoch, error.index) == (9, 0, 3)
    np.testing.assert_array_equal(error.batch["y"], batches[3]["y"])
    clean = train.fit(STEP, train.fit(STEP, start(), LOADER, epochs=1).state, batches[:3], epochs=1)
    chex.assert_trees_all_equal(error.state.params, clean.params)
    assert not np.isfinite(error.report.loss)


def test_what_is_not_finite_may_be_left_out():
    batches = spoilt(3, np.nan)
    with pytest.warns(RuntimeWarning, match=r"step [39] \(epoch [01], batch 3\).*The update was skipped") as warned:
        result = train.fit(SKIPPING, start(), batches, epochs=2)
    assert [str(warning.message).split(":")[0] for warning in warned] == [
        f"not finite at step {step} (epoch {epoch}, batch 3)" for step, epoch in ((3, 0), (9, 1))
    ]
    assert [row["skipped"] for row in result.history] == [1, 1]
    assert all(np.isfinite(value) for row in result.history for value in row.values())
    state = start()
    for number, batch in enumerate([*batches, *batches]):
        if number % 6 != 3:
            state, _ = STEP(state, batch)
        else:
            state = state._replace(step=state.step + 1)
    chex.assert_trees_all_equal(result.params, state.params)


def test_ensembles_are_fitted_together(tmp_path):
    keys = jax.random.split(jax.random.key(0), 3)

    def member(key):
        return train.init({"w": jax.random.normal(key, (3,))}, OPTIMIZER, key)

    step = train.make_step(loss_fn, OPTIMIZER, ensemble=True)
    result = train.fit(step, jax.vmap(member)(keys), LOADER, epochs=2, checkpoints=train.Checkpoints(tmp_path))
    alone = [train.fit(STEP, member(key), LOADER, epochs=2) for key in keys]
    np.testing.assert_allclose(result.params["w"], [fit.params["w"] for fit in alone], rtol=1e-5)
    for row, *rows in zip(result.history, *(fit.history for fit in alone), strict=True):
        for name in ("loss", "gradient_norm", "mae"):
            np.testing.assert_allclose(row[name], np.mean([row[name] for row in rows]), rtol=1e-5)
    with pytest.raises(
        train.NonFiniteError, match=r"step 3 .*: loss \[nan nan nan\], gradient norm \[nan nan nan\], in params\['w'\]"
    ):
        train.fit(step, jax.vmap(member)(keys), spoilt(3, np.nan), epochs=1)


def test_callbacks_see_the_fit_so_far_and_may_end_it(tmp_path):
    seen = []

    def stop(fit):
        seen.append((len(fit.history), int(fit.state.step)))
        return len(fit.history) == 2

    path = tmp_path / "deep" / "history.csv"
    result = train.fit(STEP, start(), LOADER, epochs=5, callbacks=[stop, train.callbacks.csv(path)])
    assert seen == [(1, 6), (2, 12)]
    with path.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == result.history
    assert [file.name for file in path.parent.iterdir()] == ["history.csv"]


@pytest.mark.learn
def test_tensorboard_gets_every_number(tmp_path):
    from tensorboardX import SummaryWriter
    from tensorboardX.proto import event_pb2

    with SummaryWriter(str(tmp_path)) as writer:
        result = train.fit(STEP, start(), LOADER, epochs=2, callbacks=[train.callbacks.tensorboard(writer)])
    (file,) = tmp_path.iterdir()
    content, scalars, place = file.read_bytes(), {}, 0
    while place < len(content):
        size = int.from_bytes(content[place : place + 8], "little")
        event = untyped(event_pb2).Event.FromString(content[place + 12 : place + 12 + size])
        scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        place += 16 + size
    expected = {(name, row["step"]): value for row in result.history for name, value in row.items() if name != "step"}
    assert scalars.keys() == expected.keys()
    np.testing.assert_allclose([scalars[at] for at in expected], list(expected.values()), rtol=1e-6)


def test_the_bar_counts_on_from_the_checkpoint(tmp_path, monkeypatch, capsys):
    import tqdm

    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    train.fit(STEP, start(), LOADER, epochs=1, progress=True)
    assert not bars  # there is no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    checkpoints = train.Checkpoints(tmp_path)
    for epochs in (1, 3):
        train.fit(STEP, start(), LOADER, epochs=epochs, checkpoints=checkpoints, progress=True)
    assert [(bar.initial, bar.n, bar.total) for bar in bars] == [(0, 6, 6), (6, 18, 18)]
    assert "loss=" in capsys.readouterr().err


def test_the_bar_is_out_of_the_way_of_what_callbacks_print(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = []

    def look(fit):
        drawn = capsys.readouterr().err
        shown.append(drawn.endswith("\r") and not drawn.rstrip("\r").rsplit("\r", 1)[-1].strip())  # an empty line
        train.callbacks.printing()(fit)

    train.fit(STEP, start(), LOADER, epochs=2, callbacks=[look], progress=True)
    assert shown == [True, True]
    printed = capsys.readouterr()
    assert printed.out.startswith("step 12, epoch 2, ")
    assert "12/12" in printed.err  # drawn again


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_where_there_is_no_terminal_lines_tell_how_far_it_is(monkeypatch, capsys, seconds):
    """As in a log or a notebook: steps and rows, and at the end the last row if it was not told."""
    monkeypatch.setattr(_progress, "SECONDS", seconds)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    result = train.fit(STEP, start(), LOADER, epochs=2, every=4, validate=VALIDATE, progress=True)
    printed = capsys.readouterr()
    assert not printed.out
    lines = printed.err.splitlines()
    last = result.history[-1]
    assert lines[-1] == _progress.line(last, 12)
    assert lines[-1].startswith("step 12 of 12, epoch 2, ")
    assert f"validation/loss {last['validation/loss']:.4g}" in lines[-1]
    assert len(lines) == (12 if seconds == 0 else 1)
    if seconds == 0:
        for number, line in enumerate(lines[:3], start=1):
            assert re.fullmatch(rf"step {number} of 12, [\d.e+]+ steps a second", line)
        assert lines[3] == _progress.line(result.history[0], 12)


def test_rows_are_printed_where_one_says(tmp_path, capsys):
    with (tmp_path / "log").open("w") as file:
        callbacks = [train.callbacks.printing(), train.callbacks.printing(file)]
        train.fit(STEP, start(), LOADER, epochs=2, callbacks=callbacks)
    printed = capsys.readouterr().out
    assert [line.split(",")[0] for line in printed.splitlines()] == ["step 6", "step 12"]
    assert (tmp_path / "log").read_text() == printed


def test_without_tqdm_a_bar_is_refused_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    never = lambda state, batch: 1 / 0
    with pytest.raises(ZeroDivisionError):  # no terminal, no tqdm needed
        train.fit(untyped(never), start(), LOADER, epochs=1, progress=True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(ImportError, match=r"`progress=True` needs tqdm: pip install 'jaxseq\[logging\]'"):
        train.fit(untyped(never), start(), LOADER, epochs=1, progress=True)


class Short:
    """Promises more than it gives."""

    def __len__(self):
        return 3

    def epoch(self, number, start=0):
        return iter(list(LOADER.epoch(0))[start:2])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"step": None}, TypeError, r"`step` must be a step from make_step, .* got None"),
        ({"state": {"w": 1}}, TypeError, r"`state` must be a state from train\.init; got dict"),
        ({"progress": "no"}, TypeError, "`progress` must be True or False; got 'no'"),
        ({"sharding": "d"}, TypeError, r"`sharding` must be a jax\.sharding\.Sharding; got 'd'"),
        (
            {"validate": LOADER},
            TypeError,
            r"`validate` must be a function, as train\.evaluator returns; got Loader",
        ),
        ({"checkpoints": train.Checkpoints(untyped(3))}, TypeError, r"`checkpoints\.folder` must be a path; got 3"),
        ({"epochs": 0}, ValueError, "`epochs` must be a positive int; got 0"),
        ({"every": 0}, ValueError, "`every` must be a positive int; got 0"),
        ({"patience": 2}, ValueError, "need `validate`, which returns the monitored number"),
        ({"validate": VALIDATE, "better": "smaller"}, ValueError, "`better` must be"),
        (
            {"validate": VALIDATE, "monitor": "mae"},
            ValueError,
            "`better` must say whether a 'lower' or a 'higher' 'mae'",
        ),
        ({"monitor": "mae", "better": "lower"}, ValueError, "need `validate`"),
        ({"validate": VALIDATE, "monitor": 3}, TypeError, "`monitor` must be the name of a number .*; got 3"),
        ({"validate": lambda params: 1.0}, TypeError, "`validate` must return a dict of numbers by name; got float"),
        ({"batches": []}, ValueError, "at least one batch; got none. Is the batch size larger than the data"),
        ({"batches": iter([1])}, TypeError, "An iterator can be read only once"),
        ({"batches": Short()}, ValueError, "has a len of 3 batches per epoch; epoch 0 gave 2"),
        ({"callbacks": [3]}, TypeError, r"`callbacks` must be a list of functions of a Fit; got \[3\]"),
        ({"callbacks": print}, TypeError, "`callbacks` must be a list of functions"),
        ({"checkpoints": "folder"}, TypeError, r"must be train\.Checkpoints\(folder\); got 'folder'"),
        (
            {"checkpoints": train.Checkpoints("folder", every=0)},
            ValueError,
            "`checkpoints.every` must be a positive int",
        ),
        ({"checkpoints": train.Checkpoints("folder", keep=0)}, ValueError, "`checkpoints.keep` must be a positive int"),
        (
            {"validate": VALIDATE, "monitor": "validation/acc", "better": "higher"},
            ValueError,
            "`monitor` must be a number that `validate` returns: loss, first, mae",
        ),
        (
            {"step": train.make_step(lambda p, b, k: (jnp.sum(p["w"]), 3), OPTIMIZER)},
            TypeError,
            "`aux` must be a dict of metrics and scalars to be reported; got",
        ),
        (
            {"step": train.make_step(lambda p, b, k: (jnp.sum(p["w"]), {"w": p["w"]}), OPTIMIZER)},
            TypeError,
            r"`aux\['w'\]` must be a metric or a scalar to be reported; got float32 \(3,\)\. Reduce it",
        ),
        (
            {"step": train.make_step(lambda p, b, k: (jnp.sum(p["w"]), {"skipped": 1.0}), OPTIMIZER)},
            ValueError,
            "`aux` must not use the name 'skipped', which every row has",
        ),
    ],
)
def test_mistakes_are_named(change, error, message):
    with pytest.raises(error, match=message):
        train.fit(**{"step": STEP, "state": start(), "batches": LOADER, "epochs": 1} | change)


def test_curves_show_training_and_validation(tmp_path):
    history = train.fit(STEP, start(), LOADER, epochs=3, validate=VALIDATE).history
    figure = train.curves.plot(history, tmp_path / "new" / "curves.png", names=("loss", "mae", "gradient_norm"))
    for axes, name, labels in zip(figure.axes, ("loss", "mae", "gradient_norm"), (2, 2, 1), strict=True):
        assert [line.get_label() for line in axes.lines] == [*["training", "validation"][:labels], "kept"]
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [row[name] for row in history])
    np.testing.assert_array_equal(figure.axes[1].lines[1].get_ydata(), [row["validation/mae"] for row in history])
    assert (tmp_path / "new" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(
        ValueError, match="`names` must be among those of the history, step, epoch, seconds, loss, first, "
    ):
        train.curves.plot(history, names=("f1",))
    with pytest.raises(ValueError, match="must hold at least one row; got none"):
        train.curves.plot([])
    for names in ("loss", [3]):
        with pytest.raises(TypeError, match="`names` must be a list of strings"):
            train.curves.plot(history, names=untyped(names))
    assert json.loads(json.dumps(history)) == history


def test_curves_mark_the_row_that_was_kept():
    """In every panel: the best one by what `fit` was told to monitor; without validation there is none."""
    pairs = [(2.0, 0.5), (1.0, 0.7), (float("nan"), 0.9), (1.5, 0.9)]
    rows = [
        {"step": 10 * n, "loss": loss, "validation/loss": loss, "validation/f1": f1}
        for n, (loss, f1) in enumerate(pairs, 1)
    ]

    def marked(history, **given):
        lines = [axes.lines[-1] for axes in train.curves.plot(history, names=("loss", "f1"), **given).axes]
        assert {line.get_label() for line in lines} == {"kept"}
        (place,) = {tuple(line.get_xdata()) for line in lines}
        return place

    assert marked(rows) == (20, 20)
    assert marked(rows, monitor="f1", better="higher") == (30, 30)  # of equals the first
    assert marked(rows, monitor="validation/f1", better="lower") == (10, 10)
    alone = train.curves.plot([{"step": 1, "loss": 2.0}]).axes[0]
    assert [line.get_label() for line in alone.lines] == ["training"]
    none = train.curves.plot([{"step": 1, "loss": 2.0, "validation/loss": float("nan")}]).axes[0]
    assert [line.get_label() for line in none.lines] == ["training", "validation"]
    with pytest.raises(ValueError, match="`monitor` must be a number of validation in the history; got 'mae'"):
        train.curves.plot(rows, monitor="mae", better="lower")
    with pytest.raises(ValueError, match="`better` must say whether a 'lower' or a 'higher' 'f1' is better"):
        train.curves.plot(rows, monitor="f1")


def test_curves_without_matplotlib_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"`plot` needs matplotlib: pip install 'jaxseq\[plot\]'"):
        train.curves.plot([{"step": 1, "loss": 2.0}])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int8, bool])
def test_narrow_scalars_are_added_up_wide(dtype):
    values = np.array([1] * 300 + [0] * 300)

    def narrow(params, batch, key):
        loss = jnp.sum(params["w"]) * 0 + (batch * 100).astype(jnp.bfloat16)
        return loss.astype(jnp.bfloat16), {"share": batch.astype(dtype)}

    step = train.make_step(narrow, optax.sgd(0.0))
    state = train.init({"w": jnp.zeros(1)}, optax.sgd(0.0), jax.random.key(0))
    (row,) = train.fit(step, state, list(values.astype(np.float32)), epochs=1).history
    assert (row["loss"], row["share"]) == (50, 0.5)


def test_an_evaluator_of_an_ensemble_is_the_mean_over_its_members():
    members = {"w": jnp.array([[0.1, -0.2, 0.3], [1.0, 0.0, 0.0]])}
    batches = data.batches(ARRAYS, 5, last="pad")
    found = train.evaluator(loss_fn, batches, ensemble=True)(members)
    alone = [VALIDATE({"w": w}) for w in members["w"]]
    for name, value in found.items():
        np.testing.assert_allclose(value, np.mean([each[name] for each in alone]), rtol=1e-6)


def test_patience_may_change_when_a_run_goes_on_but_not_what_is_best(tmp_path):
    losses = iter([1.0, 2.0, 0.5, 0.4])
    options = {"validate": lambda params: {"loss": next(losses), "f1": 0.5}, "checkpoints": train.Checkpoints(tmp_path)}
    assert len(train.fit(STEP, start(), LOADER, epochs=4, patience=1, **options).history) == 2
    assert len(train.fit(STEP, start(), LOADER, epochs=4, patience=2, **options).history) == 4
    with pytest.raises(ValueError, match="is another: monitor: loss before, f1 now; better: lower before, higher now"):
        train.fit(STEP, start(), LOADER, epochs=4, monitor="f1", better="higher", **options)
    with pytest.raises(ValueError, match="is another: monitor: loss before, None now"):
        train.fit(STEP, start(), LOADER, epochs=4, checkpoints=train.Checkpoints(tmp_path))


def test_checkpoints_stay_where_they_were_when_the_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    change = lambda fit: monkeypatch.chdir(tmp_path / "elsewhere")
    train.fit(STEP, start(), LOADER, epochs=2, callbacks=[change], checkpoints=train.Checkpoints("run"))
    assert len(list((tmp_path / "run").iterdir())) == 2


def test_a_state_that_was_given_away_is_refused():
    state = start()
    train.fit(STEP, state, LOADER, epochs=1)
    with pytest.raises(ValueError, match="`state` was donated to an earlier step"):
        train.fit(STEP, state, LOADER, epochs=1)


def test_the_fits_params_stay_when_its_state_goes_on():
    first = train.fit(STEP, start(), LOADER, epochs=1)
    train.fit(STEP, first.state, LOADER, epochs=1)
    assert np.isfinite(first.params["w"]).all()


@pytest.mark.learn
def test_a_run_on_two_devices_goes_on(tmp_path):
    """Params and batches split over two devices, saved, and loaded to where they were."""
    code = """
import sys, jax, jax.numpy as jnp, numpy as np, optax
from jaxseq import train
from jaxseq.train import _progress, metrics
mesh = jax.sharding.Mesh(jax.devices(), "d")
split, everywhere = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("d",), ()))
def loss_fn(params, batch, key):
    return metrics.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2), {}
random = np.random.default_rng(0)
batches = [{"x": random.normal(size=(8, 4)).astype("f"), "y": random.normal(size=8).astype("f")} for _ in range(4)]
def run(epochs, checkpoints=None):
    params = {"w": jax.device_put(jnp.zeros(4), split), "b": jax.device_put(jnp.zeros(()), everywhere)}
    state = train.init(params, optax.adam(0.1), jax.random.key(0))
    step = train.make_step(loss_fn, optax.adam(0.1))
    return train.fit(step, state, batches, epochs=epochs, checkpoints=checkpoints, sharding=split)
whole = run(3).params
run(1, train.Checkpoints(sys.argv[1]))
again = run(3, train.Checkpoints(sys.argv[1])).params
assert again["w"].sharding.is_equivalent_to(whole["w"].sharding, 1), again["w"].sharding
assert len(again["w"].sharding.device_set) == 2
print(all(np.array_equal(again[name], whole[name]) for name in whole))
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.stdout == "True\n", result.stderr
