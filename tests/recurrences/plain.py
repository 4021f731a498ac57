"""The algebras of linear steps as plain loops in NumPy, one row and one head at a time.

Each loop runs `fields`, a dict of arrays `[T, B, ...]` as those of the algebra, from a carry, under a mask and with
resets to `initial`; it returns the last carry and what is observed, zeros where nothing is. They hold for complex
numbers too, so that a derivative comes by a step into the imaginary direction, exact to the last digits.
"""

import numpy as np


def diagonal(fields, carry, mask, reset, initial):
    a = np.broadcast_to(fields["a"], fields["b"].shape)

    def step(t, b, h):
        h = a[t, b] * h + fields["b"][t, b]
        return h, h

    return _run(step, fields["b"].shape[:2], carry, mask, reset, initial)


def outer(fields, carry, mask, reset, initial):
    log_decay, k, v, q = (fields[name] for name in ("log_decay", "k", "v", "q"))

    def step(t, b, S):
        new, seen = np.empty_like(S), np.empty(S.shape[::2], S.dtype)
        for head in range(len(S)):
            of = head if k.shape[2] > 1 else 0
            new[head] = np.diag(np.exp(log_decay[t, b, head]) * np.ones(S.shape[1])) @ S[head]
            new[head] += np.outer(k[t, b, of], v[t, b, head])
            seen[head] = q[t, b, of] @ new[head]
        return new, seen

    return _run(step, v.shape[:2], carry, mask, reset, initial)


def delta(fields, carry, mask, reset, initial):
    log_decay, beta, k, v, q = (fields[name] for name in ("log_decay", "beta", "k", "v", "q"))

    def step(t, b, S):
        new, seen = np.empty_like(S), np.empty(S.shape[::2], S.dtype)
        for head in range(len(S)):
            turn = np.eye(S.shape[1]) - beta[t, b, head] * np.outer(k[t, b, head], k[t, b, head])
            new[head] = np.exp(log_decay[t, b, head]) * turn @ S[head]
            new[head] += beta[t, b, head] * np.outer(k[t, b, head], v[t, b, head])
            seen[head] = q[t, b, head] @ new[head]
        return new, seen

    return _run(step, v.shape[:2], carry, mask, reset, initial)


def scaled_outer(fields, carry, mask, reset, initial):
    """The carry is (c, n, m), and what is observed (qᵀ C, qᵀ n, m)."""
    log_forget, log_input, k, v, q = (fields[name] for name in ("log_forget", "log_input", "k", "v", "q"))

    def step(t, b, carry):
        c, n, m = (np.array(part) for part in carry)
        values, normaliser = np.empty(c.shape[::2], c.dtype), np.empty(len(c), c.dtype)
        for head in range(len(c)):
            kept, taken = log_forget[t, b, head] + m[head], log_input[t, b, head]
            new = kept if kept.real > taken.real else taken
            f, i = np.exp(kept - new), np.exp(taken - new)
            c[head] = f * c[head] + i * np.outer(k[t, b, head], v[t, b, head])
            n[head] = f * n[head] + i * k[t, b, head]
            m[head] = new
            values[head], normaliser[head] = q[t, b, head] @ c[head], q[t, b, head] @ n[head]
        return (c, n, m), (values, normaliser, m)

    return _run(step, v.shape[:2], carry, mask, reset, initial)


def _run(step, steps, carry, mask, reset, initial):
    T, B = steps
    last, rows = [], []
    for b in range(B):
        row, seen = _row(carry, b), []
        for t in range(T):
            if reset[t, b]:
                row = _row(initial, b)
            new, observed = step(t, b, row)
            if mask[t, b]:
                row = new
            seen.append(observed if mask[t, b] else _zeros(observed))
        last.append(row)
        rows.append(_stacked(seen))
    observed = _stacked(rows)
    turned = tuple(part.swapaxes(0, 1) for part in observed) if isinstance(observed, tuple) else observed.swapaxes(0, 1)
    return _stacked(last), turned


def _row(tree, b):
    return tuple(part[b] for part in tree) if isinstance(tree, tuple) else tree[b]


def _zeros(tree):
    return tuple(np.zeros_like(part) for part in tree) if isinstance(tree, tuple) else np.zeros_like(tree)


def _stacked(trees):
    if isinstance(trees[0], tuple):
        return tuple(np.stack(parts) for parts in zip(*trees, strict=True))
    return np.stack(trees)
