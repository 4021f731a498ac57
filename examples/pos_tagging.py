"""Parts of speech of Cantonese: from transcripts to saved, reloaded and evaluated taggers, an HMM and a CRF among them.

    python -m examples.pos_tagging [--out runs/pos_tagging] [--seed 0] [--smoke] ["我 想 食 飯 ." …]

In: the words of an utterance. Out: a tag for each. The data are the Hong Kong Cantonese Corpus, see
`examples/chat_files.py`. All its tags are to be told, as they are, but that punctuation marks, which are not scored,
have one in common. Of the utterances 80 % train, 10 % choose and 10 % test; no recording is in two parts.

A word is read as itself, where it stands twice in the part to train on, and as the sum of its characters, first and
last marked; in training one word in ten is hidden, so that those not seen are told by their characters. A bidirectional
LSTM reads that and scores each tag at each word. Either each tag is then chosen by itself, or all of them as a path, by
a conditional random field (CRF) trained with the net. Beside them stand two that only count, `examples.counted_tags`:
each word's most frequent tag, and a hidden Markov model (HMM). The test part is looked at once, the nets as they were
stored.
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import counted_tags, options, out_folder
from examples.chat_files import PUNCTUATION, Talk, hkcancor, made_up
from examples.taggers import make_decode, make_loss, plot_f1, predict, timed
from jaxseq import data, nn, train
from jaxseq.train import metrics

BATCH, PIECES, UNKNOWN = 64, 8, 1
SENTENCES = ("你 聽日 去 邊度 食 飯 啊 ?", "佢哋 鍾意 飲 凍檸茶 .")


class Vocabularies(NamedTuple):
    words: data.Vocabulary
    pieces: data.Vocabulary
    tags: data.Vocabulary


def pieces(word: str) -> list[str]:
    """Returns the word's first and last character, marked as such, and then all; PIECES at most."""
    return [f"^{word[0]}", f"{word[-1]}$", *word][:PIECES]


def make_vocabularies(talk: Talk) -> Vocabularies:
    spelled = [pieces(word) for words in talk.words for word in words]
    words, tags = data.Vocabulary.build(talk.words, min_count=2), data.Vocabulary.build(talk.tags)
    return Vocabularies(words, data.Vocabulary.build(spelled, min_count=2), tags)


class Part(NamedTuple):
    talk: Talk
    inputs: dict[str, list[np.ndarray]]  # ids of each utterance: words [T_i], pieces [T_i, PIECES]
    tags: list[np.ndarray]  # ids [T_i]
    labels: np.ndarray  # the tags of all utterances in a row, int [N]
    scored: np.ndarray  # bool [N], False for punctuation

    def accuracy(self, found: list[np.ndarray]) -> float:
        """Returns the share of right tags among those that were found for each utterance."""
        return float((np.concatenate(found) == self.labels)[self.scored].mean())


def encode_words(utterances: list[list[str]], vocabularies: Vocabularies) -> dict[str, list[np.ndarray]]:
    """Returns words `[T_i]` and their pieces `[T_i, PIECES]`, as ids."""

    @functools.cache
    def spell(word):
        ids = vocabularies.pieces.encode(pieces(word))
        return np.pad(ids, (0, PIECES - len(ids)))

    return {
        "words": [vocabularies.words.encode(words) for words in utterances],
        "pieces": [np.array([spell(word) for word in words]) for words in utterances],
    }


def encode(talk: Talk, vocabularies: Vocabularies) -> Part:
    tags = [vocabularies.tags.encode(tags) for tags in talk.tags]
    scored = np.array([tag != PUNCTUATION for tags in talk.tags for tag in tags])
    return Part(talk, encode_words(talk.words, vocabularies), tags, np.concatenate(tags), scored)


class Tagger(nnx.Module):
    """Scores of the tags `[B, T, K]` for words `[B, T]` and their pieces; `crf` chooses a path, None: each tag."""

    def __init__(self, vocabularies: Vocabularies, hidden: int, crf: bool, rngs: nnx.Rngs):
        words, pieces, tags = map(len, vocabularies)
        net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.lstm(hidden)), inputs=0.3, outputs=0.3)
        self.words = nnx.Embed(words, hidden, rngs=rngs)
        self.pieces = nnx.Embed(pieces, hidden, rngs=rngs)
        self.tagger = nn.SequenceTagger(net, 2 * hidden, tags, rngs=rngs)
        self.crf = nn.CRF(tags, rngs=rngs) if crf else None

    def __call__(self, batch: data.Batch, key: jax.Array | None = None) -> jax.Array:
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


def print_row(name: str, row: dict[str, float]) -> None:
    print(f"{name}, epoch {row['epoch']:.0f}: {row['loss']:.3f} nats a word in training, ", end="")
    print(f"accuracy {row['validation/accuracy']:.1%} in validation", flush=True)


def load(folder: Path) -> Callable[[list[list[str]]], list[np.ndarray]]:
    """Returns the tagger that is stored in `folder`, as a function from words to tags `[T_i]` of each utterance."""
    info = train.load_info(folder)
    vocabularies = Vocabularies(*(data.Vocabulary.from_dict(info[name]) for name in Vocabularies._fields))
    graph, like = make_graph(vocabularies, info["hidden"], info["crf"])
    params, decode = train.load(folder, like).tree, make_decode(graph)
    return lambda words: predict(decode, params, encode_words(words, vocabularies))


def choose_emissions(counts: dict[str, np.ndarray], chain: Any, part: Part) -> Callable[[list[str]], np.ndarray]:
    """Returns the HMM's emissions whose words lean on others as much as gives the most right tags in the part."""
    candidates = [counted_tags.emissions(counts, weight) for weight in (0.1, 0.3, 1.0, 3.0)]
    rows = ({"log_obs": [emissions(words) for words in part.talk.words]} for emissions in candidates)
    right = [part.accuracy(predict(counted_tags.decode, chain, row)) for row in rows]
    return candidates[int(np.argmax(right))]


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "pos_tagging")
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="tagged at the end; words apart by spaces")
    parser.add_argument("--seed", type=int, default=0)
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
    frequent, emissions = counted_tags.most_frequent(counts), choose_emissions(counts, chain, validation)
    taggers = {
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
        train.curves.plot(fitted.history, args.out / f"{name}.png", names=("loss", "accuracy"))
        taggers[name] = load(args.out / name)

    # The test part, once.
    unknown = test.scored & np.array([word not in counts for words in test.talk.words for word in words])
    share = f"{unknown.sum() / test.scored.sum():.1%} unknown"
    print(f"\n{'test part':28}{'accuracy':>10}{share:>16}{'macro F1':>10}{'words/s':>10}")
    f1 = {}
    for name, tagger in taggers.items():
        found, speed = timed(lambda tagger=tagger: tagger(test.talk.words))
        tags = np.concatenate(found)
        scores = metrics.confusion(jnp.asarray(tags), jnp.asarray(test.labels), K, mask=jnp.asarray(test.scored))
        f1[name] = np.asarray(scores.f1)
        of_unknown = (tags == test.labels)[unknown].mean()
        print(f"{name:28}{test.accuracy(found):10.1%}{of_unknown:16.1%}{scores.macro.f1:10.1%}{speed:10,.0f}")
    frequency = np.bincount(test.labels[test.scored], minlength=K)
    plot_f1(f1, frequency, vocabularies.tags.tokens, args.out / "f1.png", "Test part, the most frequent tags")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}\n")

    words = [sentence.split() for sentence in args.sentences]
    for row, ids in zip(words, taggers["BiLSTM-CRF"](words), strict=True):
        print(" ".join(f"{word}/{tag}" for word, tag in zip(row, vocabularies.tags.decode(ids), strict=True)))


if __name__ == "__main__":
    main()
