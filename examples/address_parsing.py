"""Parsing addresses: which word is the street, which the place? A net with a CRF and without, and CRFsuite.

    python -m examples.address_parsing [--out runs/address_parsing] [--smoke] ["12 Main St, Salem NH 03079" …]

In: the words of an address in the United States. Out: one of 29 tags for each. The data are those that the parser
usaddress is trained on, see `examples/addresses.py`. They are few, so all is done three times: 20 % of the addresses
test, another 20 % each time, 10 % choose, and 70 % train.

A word is read as itself, in lower case, its digits all one, where it is among the most frequent; and letter by letter,
by a small bidirectional GRU, so that one not seen is told by its spelling. A bidirectional LSTM reads the words. Its
scores choose each tag by itself, or all as a path by a conditional random field (CRF) trained with it. Training stops
once the validation part has not got better for five epochs. Beside them stands CRFsuite, as in usaddress: a CRF over
features that are written by hand, of each word and its neighbours, its regularisation chosen by the same validation
part. What is tested are the models as they were stored.
"""

import functools
import re
import string
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import crfsuite, options, out_folder
from examples.addresses import Addresses, made_up, usaddress
from examples.taggers import make_decode, make_loss, plot_f1, predict
from jaxseq import data, nn, train
from jaxseq.train import metrics

BATCH, WORDS, LETTERS, UNKNOWN = 32, 500, 12, 1
ALPHABET = data.Vocabulary(("<pad>", "<unk>", *string.ascii_letters, *string.punctuation, "0"))
ADDRESSES = ("60 East Walton Street, Apt 2b, Chicago, IL 60611", "PO Box 12, Salem NH 03079")
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(5e-3, weight_decay=1e-2))


def plain(word: str) -> str:
    """Returns the word in lower case, each digit a 0, without what stands around it."""
    return re.sub(r"\d", "0", word.lower()).strip(string.punctuation)


def encode(words: list[list[str]], vocabulary: data.Vocabulary) -> dict[str, list[np.ndarray]]:
    """Returns the ids of words `[T_i]` and of their letters `[T_i, LETTERS]`: the first ones and the last."""

    def spell(word):
        letters = re.sub(r"\d", "0", word)
        letters = letters if len(letters) <= LETTERS else letters[: LETTERS // 2] + letters[-LETTERS // 2 :]
        return np.pad(ALPHABET.encode(letters), (0, LETTERS - len(letters)))

    return {
        "words": [vocabulary.encode([plain(word) for word in row]) for row in words],
        "letters": [np.array([spell(word) for word in row]) for row in words],
    }


class Parser(nnx.Module):
    """Scores of the tags `[B, T, K]` for words `[B, T]` and letters; `crf` chooses a path, None: each tag by itself."""

    def __init__(self, tags: int, hidden: int, crf: bool, rngs: nnx.Rngs):
        net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.lstm(hidden)), inputs=0.4, outputs=0.4)
        self.words = nnx.Embed(WORDS, 32, rngs=rngs)
        self.letters = nnx.Embed(len(ALPHABET), 16, rngs=rngs)
        self.speller = nn.Recurrent(jaxseq.bidirectional(jaxseq.gru(24)), 16, rngs=rngs)
        self.tagger = nn.SequenceTagger(net, 32 + 2 * self.speller.cell.size, tags, rngs=rngs)
        self.crf = nn.CRF(tags, rngs=rngs) if crf else None

    def __call__(self, batch: data.Batch, key: jax.Array | None = None) -> jax.Array:
        """Returns the scores; with a key, dropout is drawn."""
        key_words, key_net = (None, None) if key is None else jax.random.split(key)
        words = data.token_dropout(key_words, batch["words"], 0.2, UNKNOWN, mask=batch["mask"])
        spelled = batch["letters"] > 0  # [B, T, LETTERS]: each word is a sequence
        spelling = nn.ends_pool(self.speller(self.letters(batch["letters"]), mask=spelled), spelled)
        return self.tagger(jnp.concatenate([self.words(words), spelling], axis=-1), mask=batch["mask"], key=key_net)


class Net(NamedTuple):
    """A parser's functions, jitted once for all that it is trained on."""

    init: Callable[[int], nnx.State]
    step: Callable
    decode: Callable


def make_net(tags: int, hidden: int, crf: bool) -> Net:
    def split(seed):
        return nnx.split(Parser(tags, hidden, crf, nnx.Rngs(seed)), nnx.Param)

    graph, _ = split(0)
    return Net(lambda seed: split(seed)[1], train.make_step(make_loss(graph), OPTIMIZER), make_decode(graph))


def fit(net: Net, inputs: list[dict], labels: list[list], seed: int, epochs: int, folder: Path) -> train.Fit:
    """Trains on the first part until the share of right tags in the second has not got better for five epochs."""
    truth = np.concatenate(labels[1])

    def validate(params):
        return {"accuracy": np.mean(np.concatenate(predict(net.decode, params, inputs[1])) == truth)}

    return train.fit(
        net.step,
        train.init(net.init(seed), OPTIMIZER, jax.random.key(seed)),
        data.bucketed({**inputs[0], "tags": labels[0]}, {}, BATCH, seed=seed),
        epochs=epochs,
        validate=validate,
        monitor="accuracy",
        better="higher",
        patience=5,
        checkpoints=train.Checkpoints(folder, keep=1, settings=[seed, epochs]),
        progress=True,
    )


def load(net: Net, folder: Path, words: list[list[str]]) -> list[np.ndarray]:
    """Returns the tags of each address, by the parser that is stored in `folder`."""
    params, info = train.load(folder, net.init(0))
    return predict(net.decode, params, encode(words, data.Vocabulary.from_dict(info)))


def fit_crfsuite(training: Addresses, validation: Addresses, path: Path) -> None:
    """Trains CRFsuite at four strengths, and keeps the one with the most right tags in the validation part."""

    def accuracy(c2):
        crfsuite.fit(training, c2, path)
        found = crfsuite.predict(path, validation.words)
        return np.mean(np.concatenate(found) == np.concatenate(validation.tags))

    crfsuite.fit(training, max((0.01, 0.1, 0.3, 1.0), key=accuracy), path)


def folds(count: int) -> Iterator[list[np.ndarray]]:
    """Yields, three times, the numbers of the addresses to train on, to validate and to test; none is tested twice."""
    tenths = data.split(count, [0.1] * 10, seed=0)
    for first in (0, 2, 4):
        validation, test = tenths[first + 2], np.concatenate(tenths[first : first + 2])
        yield [np.setdiff1d(np.arange(count), np.concatenate([validation, test])), validation, test]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "address_parsing")
    parser.add_argument("addresses", nargs="*", default=ADDRESSES, help="parsed at the end")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "address_parsing")
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    addresses = made_up() if args.smoke else usaddress()
    tags = data.Vocabulary.build(addresses.tags, unknown=None)
    K, hidden, epochs, rounds = (len(tags), 16, 10, 1) if args.smoke else (len(tags), 64, 25, 3)
    print(f"{len(addresses.words)} addresses of {sum(map(len, addresses.words))} words, {K - 1} tags")

    names = ["BiLSTM-CRF"] if args.smoke else ["BiLSTM", "BiLSTM-CRF"]
    nets = {name: make_net(K, hidden, name == "BiLSTM-CRF") for name in names}
    scores, confusions, seconds = defaultdict(list), defaultdict(list), defaultdict(list)
    for fold, numbers in enumerate(islice(folds(len(addresses.words)), rounds)):
        parts = [addresses.take(part) for part in numbers]
        vocabulary = data.Vocabulary.build([map(plain, words) for words in parts[0].words], size=WORDS)
        labels = [[tags.encode(row) for row in part.tags] for part in parts]
        inputs = [encode(part.words, vocabulary) for part in parts]
        for name in ("CRFsuite", *nets):
            folder, begun = args.out / f"{name}-{fold}", time.perf_counter()
            if name == "CRFsuite":
                fit_crfsuite(*parts[:2], folder)
            else:
                fitted = fit(nets[name], inputs, labels, fold, epochs, args.out / "checkpoints" / folder.name)
                train.save(folder, fitted.params, vocabulary.to_dict())
            seconds[name].append(time.perf_counter() - begun)

            # The test part, once.
            words = parts[2].words
            if name == "CRFsuite":
                found = [tags.encode(row) for row in crfsuite.predict(folder, words)]
            else:
                found = load(nets[name], folder, words)
            ids, truth = (jnp.asarray(np.concatenate(rows)) for rows in (found, labels[2]))
            confusions[name].append(metrics.confusion(ids, truth, K))
            whole = np.mean([np.array_equal(*rows) for rows in zip(found, labels[2], strict=True)])
            scores[name].append([confusions[name][-1].accuracy, whole, confusions[name][-1].macro.f1])
            print(f"part {fold + 1}, {name}: {scores[name][-1][0]:.1%} of the words", flush=True)

    print(f"\n{'test parts':14}{'words':>14}{'addresses':>14}{'macro F1':>14}{'s to train':>12}")
    for name, rows in scores.items():
        pairs = zip(np.mean(rows, axis=0), np.std(rows, axis=0), strict=True)
        row = "".join(f"{f'{mean:.1%} ± {100 * std:.1f}':>14}" for mean, std in pairs)
        print(f"{name:14}{row}{np.mean(seconds[name]):12.1f}")
    together = {name: functools.reduce(metrics.merge, found) for name, found in confusions.items()}
    f1 = {name: np.asarray(confusion.f1) for name, confusion in together.items()}
    frequency = np.asarray(together["CRFsuite"].counts.sum(axis=1))
    plot_f1(f1, frequency, tags.tokens, args.out / "f1.png", "Test parts, the most frequent tags")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}\n")

    words = [address.split() for address in args.addresses]
    for row, ids in zip(words, load(nets["BiLSTM-CRF"], args.out / "BiLSTM-CRF-0", words), strict=True):
        print(" ".join(f"{word}/{tag}" for word, tag in zip(row, tags.decode(ids), strict=True)))


if __name__ == "__main__":
    main()
