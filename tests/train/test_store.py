"""Trees on disk: what was saved comes back to the bit, and what is not whole does not come back."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn, train
from jaxseq.train import _lock, _store, _write
from tests import zoo
from tests.untyped import untyped

CELL = jaxseq.stack(jaxseq.lstm(4), jaxseq.dropout(jaxseq.gru(3), inputs=0.1))


def make_tree():
    params = zoo.params_of(CELL, 2)
    return {
        "params": params,
        "opt_state": jax.jit(optax.adam(1e-3).init)(params),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "narrow": jnp.asarray(np.ones(3), jnp.bfloat16),
        "quantized": jnp.array([-127, 127], jnp.int8),
        "flags": jnp.array([True, False]),
        "none": None,
        "empty": jnp.asarray(np.zeros((0, 2), np.float32)),
        "host": np.arange(3, dtype=np.int64),
        "not a number": jnp.array([jnp.nan, -jnp.inf]),
    }


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def numbers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back_to_the_bit(tmp_path):
    tree, info = make_tree(), {"words": ["a\n", "é", "漢"], "loss": 0.1 + 0.2}
    train.save(tmp_path / "model", tree, info)
    stored = train.load(tmp_path / "model", tree)
    assert_same(stored.tree, tree)
    assert stored.info == info == train.load_info(tmp_path / "model")
    assert isinstance(stored.tree["host"], np.ndarray)
    assert isinstance(stored.tree["narrow"], jax.Array)
    shapes = jax.eval_shape(lambda: {**tree, "host": tree["key"]}) | {"host": tree["host"]}
    assert_same(train.load(tmp_path / "model", shapes).tree, tree)


def test_a_module_comes_back(tmp_path):
    model = nn.SequenceTagger(CELL, 2, 3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    train.save(tmp_path, params)
    like = jax.eval_shape(lambda: nnx.state(nn.SequenceTagger(CELL, 2, 3, rngs=nnx.Rngs(1)), nnx.Param))
    loaded = nnx.merge(graph, train.load(tmp_path, like).tree)
    xs = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(loaded(xs), model(xs))


def test_a_bare_array_and_nothing_are_trees(tmp_path):
    for name, tree in (("array", jnp.arange(3.0)), ("nothing", ())):
        train.save(tmp_path / name, tree)
        assert_same(train.load(tmp_path / name, tree).tree, tree)


def test_the_newest_versions_are_kept(tmp_path):
    for value in range(4):
        train.save(tmp_path, jnp.float32(value), number=10 * value, keep=2)
    assert numbers(tmp_path) == ["000000000020", "000000000030"]
    train.save(tmp_path, jnp.float32(5), keep=2)
    assert numbers(tmp_path) == ["000000000030", "000000000031"]
    train.save(tmp_path, jnp.float32(6), number=31, keep=2)
    assert train.load(tmp_path, jnp.float32(0)).tree == 6
    train.save(tmp_path, jnp.float32(7))
    assert numbers(tmp_path) == ["000000000032"]


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage", [truncate, flip, lambda file: file.unlink()], ids=["truncated", "flipped", "missing"]
)
def test_a_torn_version_is_passed_over_with_a_warning(tmp_path, damage):
    """Whichever file it is that is torn."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for number, value in ((1, 1.0), (2, 2.0)):
        train.save(whole, {"w": jnp.full((3,), value)}, {"value": value}, number=number, keep=2)
    newest = whole / "000000000002"
    files = [file.relative_to(newest) for file in sorted(newest.rglob("*")) if file.is_file() and file.stat().st_size]
    assert {"info.json", "manifest.json"} < {file.name for file in files}
    assert len(files) > 5
    for file in files:
        shutil.rmtree(torn, ignore_errors=True)
        shutil.copytree(whole, torn)
        damage(torn / "000000000002" / file)
        with pytest.warns(RuntimeWarning, match="000000000002 is passed over: ") as warned:
            stored = train.load(torn, {"w": jnp.zeros(3)})
        assert len(warned) == 1
        assert stored.tree["w"].tolist() == [1, 1, 1]
        assert stored.info == {"value": 1.0}
        if file.name != "manifest.json":
            assert str(file) in str(warned[0].message)


def test_what_was_left_behind_by_a_kill_is_not_seen_and_goes(tmp_path):
    train.save(tmp_path, jnp.float32(1), number=5)
    for name in (f".new-{'0' * 32}", ".old-000000000004"):
        shutil.copytree(tmp_path / "000000000005", tmp_path / name)
        (tmp_path / name / "info.json").unlink()
    assert train.load(tmp_path, jnp.float32(0)).tree == 1
    train.save(tmp_path, jnp.float32(2))
    assert numbers(tmp_path) == ["000000000006"]


@pytest.mark.parametrize(
    "manifest", ["[]", "null", "3", '"a"', "[" * 10**5, '{"info.json": 3}'], ids=lambda text: text[:9]
)
def test_a_manifest_that_is_none_is_passed_over(tmp_path, manifest):
    for value in (1.0, 2.0):
        train.save(tmp_path, jnp.float32(value), {"value": value}, keep=2)
    (tmp_path / "000000000001" / "manifest.json").write_text(manifest)
    with pytest.warns(RuntimeWarning, match="000000000001 is passed over: (its manifest|.* is not as it was written)"):
        assert train.load(tmp_path, jnp.float32(0)) == (1, {"value": 1.0})
    with pytest.warns(RuntimeWarning, match="000000000001 is passed over"):
        assert train.load_info(tmp_path) == {"value": 1.0}


def test_info_comes_back_as_it_was_or_is_refused(tmp_path):
    info = {"1": [1, -0.5, True, None, "\ud800"], "": {}, "n": 2**70, "inf": [math.inf], "x" * 99: [[]]}
    train.save(tmp_path, jnp.float32(1), info)
    assert train.load_info(tmp_path) == info
    ring = []
    ring.append(ring)
    for wrong, error, message in (
        ({1: "a", "1": "b"}, TypeError, "`info` must have strings as keys, as JSON has; got int 1"),
        ({"a": [{None: 1}]}, TypeError, r"`info\['a'\]\[0\]` must have strings as keys"),
        (
            {"a": (1, 2)},
            TypeError,
            r"`info\['a'\]` must be a value that JSON restores exactly; got tuple\. Give a list",
        ),
        ({"a": b"1"}, TypeError, r"`info\['a'\]` .*; got bytes"),
        ({"a": 1j}, TypeError, r"`info\['a'\]` .*; got complex"),
        (ring, ValueError, "`info` must be a value that JSON restores exactly; it cannot hold this"),
        (10**5000, ValueError, "`info` must be a value that JSON restores exactly; it cannot hold this"),
    ):
        with pytest.raises(error, match=message) as raised:
            train.save(tmp_path, jnp.float32(2), wrong)
        assert len(str(raised.value)) < 400
    assert train.load(tmp_path, jnp.float32(0)).tree == 1


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?"])
def test_a_folder_that_orbax_would_not_find_is_refused(tmp_path, name):
    """It would take the name for a pattern, and save no array without a word."""
    calls = (
        lambda folder: train.save(folder, jnp.zeros(2)),
        lambda folder: train.load(folder, jnp.zeros(2)),
        train.load_info,
        train.saved,
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"`folder` must be a path without \*, \? and \["):
            call(tmp_path / name)
        for wrong in (None, 3, b"run"):
            with pytest.raises(TypeError, match="`folder` must be a path; got"):
                call(untyped(wrong))
    assert not list(tmp_path.iterdir())


def test_one_writes_at_a_time(tmp_path):
    """Another thread here, as another process does; a reader may read, and a fork does not hold the lock."""
    train.save(tmp_path, jnp.float32(1))
    with _lock.writing(tmp_path):
        for _ in range(2):
            with pytest.raises(BlockingIOError, match=f"another process writes to {tmp_path}, or another thread"):
                train.save(tmp_path, jnp.float32(2))
        assert train.load(tmp_path, jnp.float32(0)).tree == 1
    code = """if True:
        import os, pathlib, sys, time
        from jaxseq.train import _lock
        with _lock.writing(pathlib.Path(sys.argv[1])):
            child = os.fork()  # which lives on
            os.write(1, b"locked\\n" if child else b"forked\\n")
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, process_group=0)
    assert holder.stdout is not None
    try:
        assert {holder.stdout.readline() for _ in range(2)} == {b"locked\n", b"forked\n"}
        with pytest.raises(BlockingIOError, match="another process writes to"):
            train.save(tmp_path, jnp.float32(2))
        holder.kill()  # and leaves its child
        holder.wait()
        train.save(tmp_path, jnp.float32(3))
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert numbers(tmp_path) == ["000000000001"]


def test_without_locks_one_saves_too(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock.fcntl, "flock", none)
    train.save(tmp_path, jnp.float32(1))
    monkeypatch.setattr(_lock, "fcntl", None)
    train.save(tmp_path, jnp.float32(2))
    assert train.load(tmp_path, jnp.float32(0)).tree == 2


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_waits_until_the_version_is_written(tmp_path, monkeypatch, times):
    """A second one does not."""
    train.save(tmp_path, jnp.float32(1), "before")
    write = _write._write_arrays

    def interrupted(*arguments):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(_write, "_write_arrays", interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for background jobs
    try:
        with pytest.raises(KeyboardInterrupt):
            train.save(tmp_path, jnp.float32(2), "after")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert train.load(tmp_path, jnp.float32(0)) == ((2, "after") if times == 1 else (1, "before"))


def test_a_full_disk_is_told_and_costs_nothing(tmp_path):
    """Of a process that may write no file of more than 100 kB."""
    train.save(tmp_path, jnp.float32(1), "before")
    code = """if True:
        import resource, signal, sys
        import numpy as np
        from jaxseq import train
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))
        for tree, info in ((np.random.default_rng(0).normal(size=10**5), None), (np.zeros(1), "a" * 10**6)):
            try:
                train.save(sys.argv[1], tree, info)
            except OSError as error:
                print(error.errno, error.filename, error)
    """
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    for line in result.stdout.splitlines():
        assert line.startswith(
            f"{errno.EFBIG} {tmp_path} [Errno {errno.EFBIG}] File too large: version 1 could not be sav"
        )
    assert len(result.stdout.splitlines()) == 2
    assert numbers(tmp_path) == ["000000000000"]
    assert train.load(tmp_path, jnp.float32(0)) == (1, "before")


def test_what_is_in_the_way_is_named_and_left(tmp_path):
    (tmp_path / "000000000005").write_text("mine")
    train.save(tmp_path, jnp.float32(1), number=4)
    with pytest.raises(FileExistsError, match="000000000005 has the name of a version but was not saved here"):
        train.save(tmp_path, jnp.float32(2), number=5)
    assert train.load(tmp_path, jnp.float32(0)).tree == 1
    train.save(tmp_path, jnp.float32(3))
    assert numbers(tmp_path) == ["000000000005", "000000000006"]
    assert (tmp_path / "000000000005").read_text() == "mine"


def test_a_part_is_read(tmp_path):
    body, head = {"w": jnp.arange(3.0), "b's": jnp.ones(2)}, {"w": jnp.zeros((2, 5)), "b": jnp.zeros(5)}
    saved = {"net": {"body": body, "head": head}, "best": [jnp.ones(1)], "rest": jnp.zeros(4)}
    train.save(tmp_path, saved, "info")
    like = jax.tree.map(jnp.zeros_like, body)
    assert_same(train.load(tmp_path, like, part="net/body").tree, body)
    assert_same(train.load(tmp_path, jnp.zeros(1), part="best/0").tree, jnp.ones(1))
    assert_same(train.load(tmp_path, jax.eval_shape(lambda: saved), part="").tree, saved)
    new = {"body": like, "head": {"w": jnp.full((2, 7), 3.0), "scale": jnp.ones(7)}}
    there = "`part` must be in .*: best, best/0, net, net/body, net/head, rest, ...; got 'ne'"
    for like, part, error, message in (
        (new, "net", ValueError, r"\['head'\]\['b'\] is in it and not in `like`; \['head'\]\['scale'\] is not in"),
        (new, "ne", ValueError, there),
        (new, None, TypeError, "`part` must be a path"),
        ({"a": None, "b": "c"}, "", TypeError, r"`like\['b'\]` must be an array; got str 'c'"),
    ):
        with pytest.raises(error, match=message):
            train.load(tmp_path, like, part=untyped(part))


def test_nothing_whole_is_an_error_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing was saved in .*model"):
        train.load(tmp_path / "model", {})
    train.save(tmp_path / "model", jnp.float32(1))
    (tmp_path / "model" / "000000000000" / "manifest.json").write_text("{")
    with pytest.warns(RuntimeWarning, match="its manifest"), pytest.raises(train.TornError, match="none of the 1"):
        train.load_info(tmp_path / "model")


def test_all_of_a_run_in_place_of_its_params_is_refused_shortly(tmp_path):
    params = {f"weight_{i}": jnp.zeros(2) for i in range(40)}
    state = train.init(params, optax.adam(0.1), jax.random.key(0))
    train.save(tmp_path, {"state": state, "best": None, "sums": None})
    with pytest.raises(ValueError, match=r"and \d+ more\. To read its params, give part=\"state/params\"") as raised:
        train.load(tmp_path, params)
    assert len(str(raised.value)) - len(str(tmp_path)) < 300
    with pytest.raises(ValueError, match=r"\['A+\.\.\.; and \d+ more$") as raised:
        train.load(tmp_path, {"A" * 1000: jnp.zeros(2)}, part="state/params")
    assert len(str(raised.value)) - len(str(tmp_path)) < 300


def test_another_tree_is_refused_and_its_leaves_named(tmp_path):
    train.save(tmp_path, {"a": jnp.zeros(2), "b": jnp.zeros(3), "c": jnp.zeros(1), "z": jnp.zeros(1)})
    like = {"a": jnp.zeros(3), "b": jnp.zeros(3, jnp.int32), "d": jnp.zeros(1), "z": jnp.zeros(1)}
    with pytest.raises(ValueError, match="holds another tree than `like`") as raised:
        train.load(tmp_path, like)
    message = str(raised.value)
    assert "['a'] is float32 (2,), `like` has float32 (3,)" in message
    assert "['b'] is float32 (3,), `like` has int32 (3,)" in message
    assert "['c'] is in it and not in `like`" in message
    assert "['d'] is not in it" in message
    assert "'z'" not in message


def test_what_cannot_be_saved_leaves_what_was(tmp_path):
    train.save(tmp_path, jnp.float32(1))
    with pytest.raises(TypeError, match=r"`tree\['a'\]` must be an array; got float 1.0"):
        train.save(tmp_path, {"a": 1.0})
    for info, message in (
        ({"a": {1}}, r"`info\['a'\]` must be a value that JSON restores exactly; got set\.$"),
        (
            {"sizes": [3, np.ones(2)]},
            r"`info\['sizes'\]\[1\]` must be .*; got ndarray\. Give its numbers: array\.tolist",
        ),
        (np.int64(3), "`info` must be a value that JSON restores exactly; got int64"),
        (
            {(1, 2): 3},
            r"`info` must have strings as keys, as JSON has; got tuple \(1, 2\)\. Give str\(key\), or a list",
        ),
    ):
        with pytest.raises(TypeError, match=message):
            train.save(tmp_path, jnp.float32(2), info)
    with pytest.raises(ValueError, match="`number` must be an int, 0 or more; got -1"):
        train.save(tmp_path, jnp.float32(2), number=-1)
    with pytest.raises(ValueError, match="`keep` must be a positive int; got 0"):
        train.save(tmp_path, jnp.float32(2), keep=0)
    assert train.load(tmp_path, jnp.float32(0)).tree == 1
    assert json.loads((tmp_path / "000000000000" / "info.json").read_text()) is None


def test_names_of_others_are_left_alone(tmp_path):
    """Folders and files that `save` did not make, and links."""
    train.save(tmp_path / "other", jnp.float32(3), number=7)
    folder = tmp_path / "model"
    for name in ("123", ".my-old-version", ".old-version"):
        (folder / name).mkdir(parents=True)
    (folder / ".new-versions").write_text("a file")
    (folder / "000000000007").symlink_to(tmp_path / "other" / "000000000007")
    before = set(folder.iterdir())
    for value in (1.0, 2.0):
        train.save(folder, jnp.float32(value))
    assert set(folder.iterdir()) == before | {folder / "000000000001"}
    assert train.load(folder, jnp.float32(0)).tree == 2


def test_a_version_that_was_being_replaced_is_found(tmp_path):
    """Killed between the two renamings: the old one is aside, the new one not yet in its place."""
    train.save(tmp_path, jnp.float32(1), number=5)
    (tmp_path / "000000000005").rename(tmp_path / ".old-000000000005")
    (tmp_path / f".new-{'0' * 32}").mkdir()
    assert train.load(tmp_path, jnp.float32(0)).tree == 1
    train.save(tmp_path, jnp.float32(2), number=5)
    assert numbers(tmp_path) == ["000000000005"]
    assert train.load(tmp_path, jnp.float32(0)).tree == 2


def test_numbers_rise_but_for_damaged_ones(tmp_path):
    train.save(tmp_path, jnp.float32(1), number=10)
    with pytest.raises(ValueError, match="must be at least that of the newest version, 10; got 5"):
        train.save(tmp_path, jnp.float32(2), number=5)
    assert train.load(tmp_path, jnp.float32(0)).tree == 1
    (tmp_path / "000000000010" / "info.json").unlink()
    train.save(tmp_path, jnp.float32(2), number=5)
    assert numbers(tmp_path) == ["000000000005"]


def test_a_reader_looks_again_where_a_writer_drops_the_version_meanwhile(tmp_path, monkeypatch):
    train.save(tmp_path, jnp.float32(1), "one")
    look, writers = _store.damage, iter([lambda: train.save(tmp_path, jnp.float32(2), "two")])

    def look_after_a_write(version):
        next(writers, lambda: None)()
        return look(version)

    monkeypatch.setattr(_store, "damage", look_after_a_write)
    assert train.load(tmp_path, jnp.float32(0)) == (2, "two")


def test_numpy_scalars_are_arrays(tmp_path):
    train.save(tmp_path, {"x": np.float32(3), "n": np.int64(2**40)})
    assert train.load(tmp_path, {"x": np.float32(0), "n": np.int64(0)}).tree == {"x": 3, "n": 2**40}


@pytest.mark.some(3)
@pytest.mark.parametrize("keep", [1, 2, 4, 5, 20])
def test_as_many_versions_are_kept_as_is_said(tmp_path, keep):
    for number in range(8):
        train.save(tmp_path, jnp.float32(number), number=number, keep=keep)
    assert [int(name) for name in numbers(tmp_path)] == list(range(8))[-keep:]


def test_saved_tells_whether_there_is_a_whole_version(tmp_path):
    assert not train.saved(tmp_path / "none")
    (tmp_path / f".new-{'0' * 32}").mkdir()
    assert not train.saved(tmp_path)
    train.save(tmp_path, jnp.float32(1))
    assert train.saved(str(tmp_path))
    (tmp_path / "000000000000" / "info.json").unlink()
    assert not train.saved(tmp_path)
