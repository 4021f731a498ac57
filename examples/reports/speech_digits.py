"""Strings of digits that were recognised: rows of training, error rates, and when each letter was heard."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from examples.data.digit_strings import VOCABULARY
from examples.shared.spectra import BANDS, FRAME, HOP
from jaxseq import train
from jaxseq.structured import ctc
from jaxseq.train import metrics


def print_row(fitted: train.Fit) -> None:
    """Prints the last row of a history."""
    row = fitted.history[-1]
    nats = f"{row['loss']:.3f} nats a letter, validation {row['validation/loss']:.3f}"
    print(f"step {row['step']}, {row['seconds']:.0f} s: {nats}", flush=True)


def print_header(strings: Sequence[Sequence[int]], decoders: Sequence[str]) -> None:
    """Prints the head of the table, two columns a decoder."""
    print(f"\n{len(strings)} strings, {sum(map(len, strings))} words")
    print(f"{'':30}" + "".join(f"{name:>23}" for name in decoders))
    print(f"{'test part':30}" + f"{'CER':>15}{'WER':>8}" * len(decoders))


def print_rates(name: str, references: list[str], found: list[list[str]]) -> None:
    """Prints a row of the table: the error rates of what each decoder found."""
    rates = (metrics.character_error_rate, metrics.word_error_rate)
    pairs = (tuple(rate(references, texts) for rate in rates) for texts in found)
    print(f"{name:30}" + "".join(f"{cer:15.2%}{wer:8.2%}" for cer, wer in pairs), flush=True)


def plot(path: Path, xs: jax.Array, log_probs: jax.Array, mask: jax.Array, text: str) -> None:
    """Draws an utterance: its frames `[T, BANDS]`, and when which letter is heard, of log-probabilities `[T, V]`."""
    labels = VOCABULARY.encode(text)
    positions = np.asarray(jax.jit(ctc.align)(log_probs, jnp.asarray(labels), mask=mask).positions)
    T = int(mask.sum())
    probabilities, at = np.exp(np.asarray(log_probs)), HOP * np.arange(len(mask)) + FRAME / 2
    figure = Figure(figsize=(10, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.imshow(np.asarray(xs)[:T].T, origin="lower", aspect="auto", extent=(0, HOP * T, 0, BANDS), cmap="magma")
    top.set(ylabel="mel band", title="Log-mel energies")
    bottom.plot(at[:T], probabilities[:T, 0], color="0.8", label="blank")
    for label in sorted(set(labels.tolist())):
        bottom.plot(at[:T], probabilities[:T, label], linewidth=1)
    for position, letter in enumerate(text):
        frames = np.flatnonzero(positions == position)
        where = at[frames[probabilities[frames, labels[position]].argmax()]]
        bottom.text(where, 1.03, "␣" if letter == " " else letter, ha="center", fontsize="small")
    bottom.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.12), title="Posteriors, and the best alignment")
    bottom.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)
