"""Models small enough to write out every sequence, and that."""

import itertools

import jax.numpy as jnp
import numpy as np

V, ROWS = 3, 4
TABLE = np.random.default_rng(0).normal(0, 1.5, (ROWS, V, V, V))  # logits after a row's two last tokens
START = np.array([0, 1, 2, 0])


def step(carry, token):
    """A model of its row and its two last tokens: the carry is a pytree, its leaves `[B]` and `[B, 1]`."""
    logits = jnp.asarray(TABLE, jnp.result_type(float))[carry["row"], carry["before"][:, 0], token]
    return {"row": carry["row"], "before": token[:, None]}, logits


def carry():
    return {"row": np.arange(ROWS, dtype=np.int32), "before": START[:, None].astype(np.int32)}


def log_probs(row, tokens):
    """Log-probabilities `[V]` of what follows."""
    logits = TABLE[row][tuple([START[row], START[row], *tokens][-2:])]
    return logits - np.log(np.exp(logits).sum())


def log_prob(row, tokens):
    return sum(log_probs(row, tokens[:t])[token] for t, token in enumerate(tokens))


def sequences(max_length, end):
    """All that end, and those of `max_length` that do not."""
    for n in range(1, max_length + 1):
        for tokens in itertools.product(range(V), repeat=n):
            if end not in tokens[:-1] and (tokens[-1] == end or n == max_length):
                yield tokens


def penalised(log_p, n, length_penalty, penalty="gnmt"):
    return log_p / {"gnmt": (5 + n) / 6, "power": n}[penalty] ** length_penalty


def best(row, max_length, end, length_penalty=0.0, penalty="gnmt", allowed=lambda tokens, token: True):
    """All sequences with their scores, best first."""
    scored = [
        (penalised(log_prob(row, tokens), len(tokens), length_penalty, penalty), tokens)
        for tokens in sequences(max_length, end)
        if all(allowed(tokens[:t], token) for t, token in enumerate(tokens))
    ]
    return sorted(scored, key=lambda pair: -pair[0])


def rows_of(decoded) -> list:
    """The tokens of each row, `[B]`, or `[B][size]`, as tuples."""
    tokens, lengths = np.asarray(decoded.tokens), np.asarray(decoded.lengths)
    assert np.all(tokens[np.arange(len(tokens)).reshape(-1, *[1] * lengths.ndim) >= lengths] == -1)
    columns = zip(tokens.reshape(len(tokens), -1).T, lengths.ravel(), strict=True)
    rows = [tuple(column[:n].tolist()) for column, n in columns]
    size = lengths.shape[-1]
    return rows if lengths.ndim == 1 else [rows[i : i + size] for i in range(0, len(rows), size)]
