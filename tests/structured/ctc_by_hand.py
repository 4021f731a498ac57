"""CTC by its definition: every path is written out."""

import collections
import itertools

import numpy as np


def collapse(path, blank):
    """Repeats made one, blanks dropped."""
    return tuple(int(symbol) for symbol, _ in itertools.groupby(path) if symbol != blank)


def paths(log_probs, blank):
    """Of one row `[T, V]`, for each labelling: its paths, `[(log-probability, path), ...]`."""
    T, V = log_probs.shape
    found = collections.defaultdict(list)
    for path in itertools.product(range(V), repeat=T):
        found[collapse(path, blank)].append((sum(log_probs[t, v] for t, v in enumerate(path)), path))
    return found


def total(of_labels):
    """The logarithm of the sum of paths."""
    return np.logaddexp.reduce([score for score, _ in of_labels]) if of_labels else -np.inf


def gradient(of_labels, log_probs):
    """Of -log p(labels) by `log_probs`: minus how often each frame says each symbol; 0 where no path is possible."""
    d = np.zeros(log_probs.shape)
    whole = total(of_labels)
    if whole > -np.inf:
        for score, path in of_labels:
            d[np.arange(len(path)), list(path)] -= np.exp(score - whole)
    return d


def padded(labels, T):
    """A labelling as `[T]`, -1 after its end."""
    return list(labels) + [-1] * (T - len(labels))


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
