"""Parts of speech of Cantonese: from transcripts to saved, reloaded and evaluated taggers, an HMM and a CRF among them.

    python -m examples.pos_tagging [--out runs/pos_tagging] [--seed 0] [--smoke] ["我 想 食 飯 ." …]

In: the words of an utterance. Out: a tag for each. The data are the Hong Kong Cantonese Corpus, see
`examples/data/chat_files.py`. All its tags are to be told, as they are, but that punctuation marks, which are not
scored, have one in common. Of the utterances 80 % train, 10 % choose and 10 % test; no recording is in two parts.

A word is read as itself, where it stands twice in the part to train on, and as the sum of its characters, first and
last marked; in training one word in ten is hidden, so that those not seen are told by their characters. A bidirectional
LSTM reads that and scores each tag at each word. Either each tag is then chosen by itself, or all of them as a path, by
a conditional random field (CRF) trained with the net. Beside them stand two that only count,
`examples.baselines.counted_tags`: each word's most frequent tag, and a hidden Markov model (HMM). The test part is
looked at once, the nets as they were stored.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import counted_tags
from examples.data.chat_files import hkcancor, made_up
from examples.data.tagged_talk import Part, Vocabularies, encode, encode_words, make_vocabularies
from examples.reports.tags import plot_f1, print_row, print_scores, print_tagged
from examples.shared.taggers import make_decode, make_loss, predict, timed
from jaxseq import data, nn, train

BATCH, UNKNOWN = 64, 1
SENTENCES = ("你 聽日 去 邊度 食 飯 啊 ?", "佢哋 鍾意 飲 凍檸茶 .")


class Tagger(nnx.Module):
    """Scores of the tags `[B, T, K]` for words `[B, T]` and their pieces; `crf` chooses a path, None: each tag."""

    def __init__(self, vocabularies: Vocabularies, hidden: int, crf: bool, rngs: nnx.Rngs):
        words, pieces, tags = map(len, vocabularies)
        net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.lstm(hidden)), inputs=0.3, outputs=0.3)
        self.words = nnx.Embed(words, hidden, rngs=rngs)
        self.pieces = nnx.Embed(pieces, hidden, rngs=rngs)
        self.tagger = nn.SequenceTagger(net, 2 * hidden, tags, rngs=rngs)
        self.crf = nn.CRF(tags, rngs=rngs) if crf else None

    def __call__(self, batch: Mapping[str, Any], key: jax.Array | None = None) -> jax.Array:
        """Returns the scores; with a key, dropout is drawn."""
        key_words, key_net = (None, None) if key is None else jax.random.split(key)
        words = data.token_dropout(key_words, batch["words"], 0.1, UNKNOWN, mask=batch["mask"])
        spelled = batch["pieces"][..., None] > 0
        spelling = jnp.sum(jnp.where(spelled, self.pieces(batch["pieces"]), 0), axis=-2)
        xs = jnp.concatenate([self.words(words), spelling], axis=-1)
        return self.tagger(xs, mask=batch["mask"], key=key_net)


def make_graph(vocabularies: Vocabularies, hidden: int, crf: bool, seed: int = 0) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(Tagger(vocabularies, hidden, crf, nnx.Rngs(seed)), nnx.Param)


def fit(name: str, graph: nnx.GraphDef, params: Any, parts: list[Part], args: argparse.Namespace) -> train.Fit:
    """Trains on the first part; the best params are those with the most right tags in the second."""
    epochs, rate = (4, 3e-2) if args.smoke else (6, 4e-3)
    training, validation = parts
    loader = data.bucketed({**training.inputs, "tags": training.tags}, {}, BATCH, seed=args.seed)
    schedule = optax.cosine_decay_schedule(rate, epochs * len(loader))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2))
    decode = make_decode(graph)
    return train.fit(
        train.make_step(make_loss(graph), optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        loader,
        epochs=epochs,
        validate=lambda params: {"accuracy": validation.accuracy(predict(decode, params, validation.inputs))},
        monitor="accuracy",
        better="higher",
        callbacks=[lambda fitted: print_row(name, fitted.history[-1])],
        checkpoints=train.Checkpoints(args.out / "checkpoints" / name, keep=1, settings=[args.seed, args.smoke]),
        progress=True,
    )


def load(folder: Path) -> Callable[[list[list[str]]], list[np.ndarray]]:
    """Returns the tagger that is stored in `folder`, as a function from words to tags `[T_i]` of each utterance."""
    info = train.load_info(folder)
    vocabularies = Vocabularies(*(data.Vocabulary.from_dict(info[name]) for name in Vocabularies._fields))
    graph, like = make_graph(vocabularies, info["hidden"], info["crf"])
    params, decode = train.load(folder, like).tree, make_decode(graph)
    return lambda words: predict(decode, params, encode_words(words, vocabularies))


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "pos_tagging")
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="tagged at the end; words apart by spaces")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "pos_tagging")
    started = time.perf_counter()
    talks = (made_up() if args.smoke else hkcancor()).split()
    vocabularies = make_vocabularies(talks[0])
    parts = [encode(talk, vocabularies) for talk in talks]
    training, validation, test = parts
    sizes = [f"{len(part.talk.words)} utterances of {part.scored.sum()} words" for part in parts]
    print(f"to train on {sizes[0]}, to validate {sizes[1]}, to test {sizes[2]}")

    # Counted.
    K = len(vocabularies.tags)
    counts = counted_tags.count(training.talk.words, training.tags, K)
    chain = counted_tags.chain(training.tags, K)
    frequent, emissions = (
        counted_tags.most_frequent(counts),
        counted_tags.choose_emissions(counts, chain, validation.talk.words, validation.accuracy),
    )
    taggers: dict[str, Callable[[list[list[str]]], list[np.ndarray]]] = {
        "each word's most frequent": lambda words: list(map(frequent, words)),
        "HMM": lambda words: predict(counted_tags.decode, chain, {"log_obs": list(map(emissions, words))}),
    }

    # Learnt, stored and read again.
    hidden = 16 if args.smoke else 96
    for name in ("BiLSTM-CRF",) if args.smoke else ("BiLSTM", "BiLSTM-CRF"):
        graph, params = make_graph(vocabularies, hidden, name == "BiLSTM-CRF", args.seed)
        fitted = fit(name, graph, params, parts[:2], args)
        info = {field: vocabulary.to_dict() for field, vocabulary in vocabularies._asdict().items()}
        train.save(args.out / name, fitted.params, {**info, "hidden": hidden, "crf": name == "BiLSTM-CRF"})
        train.curves.plot(
            fitted.history, args.out / f"{name}.png", names=("loss", "accuracy"), monitor="accuracy", better="higher"
        )
        taggers[name] = load(args.out / name)

    # The test part, once.
    found = {name: timed(lambda tagger=tagger: tagger(test.talk.words)) for name, tagger in taggers.items()}
    f1 = print_scores(test, found, counts, K)
    frequency = np.bincount(test.labels[test.scored], minlength=K)
    plot_f1(f1, frequency, vocabularies.tags.tokens, args.out / "f1.png", "Test part, the most frequent tags")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}\n")

    words = [sentence.split() for sentence in args.sentences]
    print_tagged(words, taggers["BiLSTM-CRF"](words), vocabularies.tags)


if __name__ == "__main__":
    main()
