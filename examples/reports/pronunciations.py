"""Pronunciations, right and wrong: error rates, words beside the dictionary, and where a model looks."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from examples.data.pronunciations import Lexicon, Phonemes
from jaxseq import data, diagnostics, nn
from jaxseq.train import metrics


def print_sizes(parts: Sequence[Sequence[str]], letters: data.Vocabulary, phonemes: data.Vocabulary) -> None:
    """Prints how many words there are to train on, to validate and to test, and of what they are made."""
    print("{:,} words to train on, {:,} to validate, {:,} to test; ".format(*map(len, parts)), end="")
    print(f"{len(letters) - letters.specials} letters, {len(phonemes) - phonemes.specials} phonemes", flush=True)


def error_rates(lexicon: Lexicon, words: Sequence[str], said: Sequence[Phonemes], *, stress: bool) -> tuple:
    """Returns edits a phoneme, and the share of words with any, against each word's nearest pronunciation."""

    def plain(row):
        return row if stress else tuple(phoneme.rstrip("012") for phoneme in row)

    rows = [(i, plain(said[i]), plain(right)) for i, word in enumerate(words) for right in lexicon[word]]
    found = {symbol for _, ours, theirs in rows for symbol in (*ours, *theirs)}
    symbols = {symbol: n for n, symbol in enumerate(sorted(found))}
    columns = ([ours for _, ours, _ in rows], [theirs for _, _, theirs in rows])
    sides = [map(jnp.asarray, data.pad([[symbols[s] for s in said] for said in column])) for column in columns]
    (predicted, predicted_mask), (right, mask) = sides
    edits = metrics.edit_distance(predicted, right, predicted_mask=predicted_mask, mask=mask)
    nearest: dict[int, tuple[int, int]] = {}
    for (i, _, phonemes), distance in zip(rows, np.asarray(edits).tolist(), strict=True):
        nearest[i] = min(nearest.get(i, (distance, len(phonemes))), (distance, len(phonemes)))
    distances, lengths = np.array(list(nearest.values())).T
    return distances.sum() / lengths.sum(), np.mean(distances > 0)


def print_scores(lexicon: Lexicon, words: Sequence[str], ways: dict[str, list[Phonemes]]) -> None:
    """Prints the error rates of pronunciations by name, with stress and without."""
    print(f"\n{'':28}{'with stress':>18}{'without':>18}\n{'test part':28}" + f"{'PER':>10}{'WER':>8}" * 2)
    for name, found in ways.items():
        rates = [rate for stress in (True, False) for rate in error_rates(lexicon, words, found, stress=stress)]
        print(f"{name:28}" + "".join(f"{rate:{width}.2%}" for rate, width in zip(rates, (10, 8) * 2, strict=True)))


def print_words(lexicon: Lexicon, said: dict[str, Phonemes]) -> None:
    """Prints pronunciations by word, beside those of the dictionary."""
    print(f"\n{'words of the test part':24}{'by a beam of 4':36}in the dictionary")
    for word, phonemes in said.items():
        print(f"{word:24}{' '.join(phonemes):36}{' '.join(lexicon[word][0])}")


def print_said(words: Sequence[str], said: Sequence[Phonemes]) -> None:
    """Prints how words are pronounced."""
    print()
    for word, phonemes in zip(words, said, strict=True):
        print(f"{word:16}{' '.join(phonemes)}")


def plot(
    model: nn.Seq2Seq, letters: data.Vocabulary, phonemes: data.Vocabulary, said: dict[str, Phonemes], path: Path
) -> None:
    """Draws which letters of a word the model looks at as it writes each phoneme, and the end, for some words."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    for ax, (word, row) in zip(figure.subplots(2, -(-len(said) // 2)).flat, said.items(), strict=True):
        source, target = (jnp.asarray(ids)[None] for ids in (letters.encode(list(word)), phonemes.encode(row)))
        weights = model.alignments(source, target)[0]
        diagnostics.plot_alignment(weights, source=list(word), target=[*row, "end"], ax=ax).set(title=word)
    figure.savefig(path, dpi=150)
