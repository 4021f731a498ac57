"""Parsing addresses: which word is the street, which the place? A net with a CRF and without, and CRFsuite.

    python -m examples.address_parsing [--out runs/address_parsing] [--smoke] ["12 Main St, Salem NH 03079" …]

In: the words of an address in the United States. Out: one of 29 tags for each. The data are those that the parser
usaddress is trained on, see `examples/data/addresses.py`. They are few, so all is done three times: 20 % of the
addresses test, another 20 % each time, 10 % choose, and 70 % train.

A word is read as itself, in lower case, its digits all one, where it is among the most frequent; and letter by letter,
by a small bidirectional GRU, so that one not seen is told by its spelling. A bidirectional LSTM reads the words. Its
scores choose each tag by itself, or all as a path by a conditional random field (CRF) trained with it. Training stops
once the validation part has not got better for five epochs. Beside them stands CRFsuite, as in usaddress: a CRF over
features that are written by hand, of each word and its neighbours, its regularisation chosen by the same validation
part. What is tested are the models as they were stored.
"""

import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import crfsuite
from examples.data.addresses import ALPHABET, encode, folds, made_up, plain, usaddress
from examples.reports.tags import Folds, print_tagged
from examples.shared.taggers import make_decode, make_loss, predict
from jaxseq import data, nn, train

BATCH, WORDS, UNKNOWN = 32, 500, 1
ADDRESSES = ("60 East Walton Street, Apt 2b, Chicago, IL 60611", "PO Box 12, Salem NH 03079")
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(5e-3, weight_decay=1e-2))


class Parser(nnx.Module):
    """Scores of the tags `[B, T, K]` for words `[B, T]` and letters; `crf` chooses a path, None: each tag by itself."""

    def __init__(self, tags: int, hidden: int, crf: bool, rngs: nnx.Rngs):
        net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.lstm(hidden)), inputs=0.4, outputs=0.4)
        self.words = nnx.Embed(WORDS, 32, rngs=rngs)
        self.letters = nnx.Embed(len(ALPHABET), 16, rngs=rngs)
        self.speller = nn.Recurrent(jaxseq.bidirectional(jaxseq.gru(24)), 16, rngs=rngs)
        self.tagger = nn.SequenceTagger(net, 32 + 2 * self.speller.cell.size, tags, rngs=rngs)
        self.crf = nn.CRF(tags, rngs=rngs) if crf else None

    def __call__(self, batch: Mapping[str, Any], key: jax.Array | None = None) -> jax.Array:
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
    scores = Folds(K)
    for fold, numbers in enumerate(islice(folds(len(addresses.words)), rounds)):
        parts = [addresses.take(part) for part in numbers]
        vocabulary = data.Vocabulary.build([map(plain, words) for words in parts[0].words], size=WORDS)
        labels = [[tags.encode(row) for row in part.tags] for part in parts]
        inputs = [encode(part.words, vocabulary) for part in parts]
        for name in ("CRFsuite", *nets):
            folder, begun = args.out / f"{name}-{fold}", time.perf_counter()
            if name == "CRFsuite":
                crfsuite.fit_best(parts[0], parts[1], folder)
            else:
                fitted = fit(nets[name], inputs, labels, fold, epochs, args.out / "checkpoints" / folder.name)
                train.save(folder, fitted.params, vocabulary.to_dict())
            seconds = time.perf_counter() - begun

            # The test part, once.
            if name == "CRFsuite":
                found = [tags.encode(row) for row in crfsuite.predict(folder, parts[2].words)]
            else:
                found = load(nets[name], folder, parts[2].words)
            scores.add(name, found, labels[2], seconds)

    scores.print()
    scores.plot(tags.tokens, args.out / "f1.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}\n")

    words = [address.split() for address in args.addresses]
    print_tagged(words, load(nets["BiLSTM-CRF"], args.out / "BiLSTM-CRF-0", words), tags)


if __name__ == "__main__":
    main()
