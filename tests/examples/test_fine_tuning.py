"""Fine-tuning end to end on made-up texts, and what each way leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples import fine_tuning

ROWS = ["majority class", "TF-IDF + logistic regression", "movie nets as they are", *fine_tuning.WAYS]


@pytest.mark.learn
def test_end_to_end_and_again(tmp_path, capsys):
    fine_tuning.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    table = {line[:30].strip(): line[30:] for line in printed.splitlines()}
    scores = [float(table[row].split("%")[0]) for row in ROWS]
    majority, _, movies, _, best, _, _ = scores
    assert movies > majority
    assert best > movies
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*/model"))) == 1 + len(fine_tuning.WAYS)

    fine_tuning.main(["--smoke", "--out", str(tmp_path)])
    again = capsys.readouterr().out
    assert "validation accuracy" not in again  # nothing was trained
    again = {line[:30].strip(): line[30:] for line in again.splitlines()}
    assert [again[row] for row in ROWS] == [table[row] for row in ROWS]


@pytest.fixture(scope="module")
def nets():
    init = jax.jit(lambda key: fine_tuning.init(9, key))
    return init(jax.random.key(0)), init(jax.random.key(1))


@pytest.mark.parametrize(
    ("way", "moving"),
    [
        ("from scratch", {"embedding", "recurrent", "head"}),
        ("fine-tuned, all weights", {"embedding", "recurrent", "head"}),
        ("frozen, new head", {"head"}),
        ("frozen, adapters and head", {"head", "adapters"}),
    ],
)
def test_each_way_moves_what_it_says(way, moving, nets):
    fresh, movie = nets
    start, optimizer = fine_tuning.WAYS[way]
    params = jax.jit(start)(fresh, movie, jax.random.key(2))
    expected = fresh if way == "from scratch" else movie
    merged = fine_tuning.merged(params)
    for part in ("embedding", "recurrent"):
        jax.tree.map(np.testing.assert_array_equal, merged[part], expected[part])
    head = fresh if way in ("from scratch", "frozen, new head") else movie
    jax.tree.map(np.testing.assert_array_equal, merged["head"], head["head"])

    gradients = jax.tree.map(jnp.ones_like, params)
    updates = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])(gradients, params)
    size = {part: float(optax.tree.norm(updates["model"][part])) for part in ("embedding", "recurrent", "head")}
    size["adapters"] = float(optax.tree.norm(updates.get("adapters", ())))
    assert {name for name, norm in size.items() if norm > 0} == moving


def test_the_embedding_of_a_fine_tuned_net_moves_slowly(nets):
    fresh, movie = nets
    start, optimizer = fine_tuning.WAYS["fine-tuned, all weights"]
    params = jax.tree.map(jnp.zeros_like, start(fresh, movie, jax.random.key(2)))  # without decay
    updates, _ = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(
        jax.tree.map(jnp.ones_like, params), params
    )
    np.testing.assert_allclose(updates["model"]["embedding"]["embedding"], -1e-3, rtol=1e-3)
    np.testing.assert_allclose(updates["model"]["head"]["kernel"], -2e-3, rtol=1e-3)
