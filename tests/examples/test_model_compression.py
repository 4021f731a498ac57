"""The example end to end on made-up waves, with a model of its own and with one of another example."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import model_compression
from examples.reports import compression
from jaxseq import train


def table_of(printed):
    """The rows by name: bytes and the numbers in percent."""
    rows = re.findall(r"^(\S.*?\S) {2,}([\d,]+) +([\d.]+)% +([\d.]+)% +([\d.]+)%", printed, re.M)
    return {name: (int(size.replace(",", "")), *map(float, rest)) for name, size, *rest in rows}


def test_zero_share():
    params = {"b": jnp.zeros(3), "w": jnp.array([[0.0, 1.0], [2.0, 3.0]])}
    assert compression.zero_share(params) == 0.25


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    model_compression.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    table = table_of(printed)
    assert list(table) == ["float32", "int8", "80% zeros", "80% zeros, tuned", "80% zeros, tuned, int8"]
    sizes = [row[0] for row in table.values()]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] == sizes[3] < 0.4 * sizes[0]  # tuning kept the zeros
    assert sizes[4] < sizes[3]
    assert table["float32"][3] > 50  # of three classes
    assert abs(table["int8"][3] - table["float32"][3]) < 5
    assert "after tuning 80.0% of the weights are zero" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "model", "sizes.png"}
    assert train.load_info(tmp_path / "model")["name"] in table
    model_compression.main(["--smoke", "--out", str(tmp_path)])
    assert table_of(capsys.readouterr().out) == table


@pytest.mark.learn
def test_takes_a_stored_model(tmp_path, capsys):
    members = [
        nnx.split(model_compression.make_model(3, 3, 5, jax.random.key(seed)), nnx.Param)[1] for seed in range(3)
    ]
    info = {"mean": [0.0] * 3, "std": [1.0] * 3, "classes": list("abc"), "size": 5}
    train.save(tmp_path / "stored", jax.tree.map(lambda *leaves: jnp.stack(leaves), *members), info)
    model_compression.main(["--smoke", "--out", str(tmp_path / "out"), "--model", str(tmp_path / "stored")])
    table = table_of(capsys.readouterr().out)
    assert table["float32"][0] == train.compression.size(members[0]) - _bytes_of_zero_biases(members[0])
    assert not (tmp_path / "out" / "checkpoints" / "whole").exists()


def _bytes_of_zero_biases(params):
    """What `sparse_size` leaves out of a model that is not trained: biases of zeros, but for a bit an entry."""
    zero = [leaf for leaf in jax.tree.leaves(params) if not np.any(leaf)]
    return sum(leaf.nbytes - -(-leaf.size // 8) for leaf in zero)
