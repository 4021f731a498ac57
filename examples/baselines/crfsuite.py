"""Addresses by CRFsuite (Okazaki 2007), a CRF over features written by hand, beside which `address_parsing` stands.

The features are of the kind that usaddress has: of each word, and the same of the words before and after it.
"""

import re
import string
from pathlib import Path

import numpy as np
import pycrfsuite

from examples.data.addresses import Addresses


def features(words: list[str]) -> list[list[str]]:
    """Returns the features of each word.

    >>> features(["60", "Oak", "St."])[2]
    ['last', '-1:word=oak', '-1:shape=Xx', '-1:starts=oak', '-1:ends=oak', '-1:letters=3', '-1:then=',
     '+0:word=st', '+0:shape=Xx.', '+0:starts=st', '+0:ends=st', '+0:letters=2', '+0:then=.']
    """
    own = [_features(word) for word in words]
    rows = []
    for t in range(len(words)):
        row = ["first"] * (t == 0) + ["last"] * (t == len(words) - 1)
        for offset in (-1, 0, 1):
            if 0 <= t + offset < len(words):
                row += [f"{offset:+}:{feature}" for feature in own[t + offset]]
        rows.append(row)
    return rows


def _features(word):
    bare = word.lower().strip(string.punctuation)
    shape = word
    for letters, sign in (("[A-Z]+", "X"), ("[a-z]+", "x"), ("[0-9]+", "0")):
        shape = re.sub(letters, sign, shape)
    # A number is told by how many digits it has, and what it ends with, as usaddress does.
    name = re.sub("[1-9]", "#", bare) if bare.isdigit() else bare
    then = word[-1] if word[-1] in string.punctuation else ""
    pairs = {"word": name, "shape": shape, "starts": name[:3], "ends": name[-3:], "letters": len(bare), "then": then}
    return [f"{key}={value}" for key, value in pairs.items()]


def fit(addresses: Addresses, c2: float, path: Path) -> None:
    """Trains, and stores the model at `path`.

    Args:
      addresses: to train on.
      c2: the strength of the L2 regularisation.
      path: a file.
    """
    trainer = pycrfsuite.Trainer(verbose=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer.set_params({"c1": 0.0, "c2": c2, "max_iterations": 200, "feature.possible_transitions": True})
    for words, tags in zip(*addresses, strict=True):
        trainer.append(features(words), tags)
    trainer.train(str(path))


def predict(path: Path, words: list[list[str]]) -> list[list[str]]:
    """Returns the tags of each address, by the model at `path`."""
    tagger = pycrfsuite.Tagger()  # pyright: ignore[reportAttributeAccessIssue]
    tagger.open(str(path))
    tags = [tagger.tag(features(row)) for row in words]
    tagger.close()
    return tags


def fit_best(training: Addresses, validation: Addresses, path: Path) -> None:
    """Trains at four strengths, and stores the model with the most right tags in the validation part."""

    def accuracy(c2):
        fit(training, c2, path)
        return np.mean(np.concatenate(predict(path, validation.words)) == np.concatenate(validation.tags))

    fit(training, max((0.01, 0.1, 0.3, 1.0), key=accuracy), path)
