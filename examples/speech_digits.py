"""Speech: spoken numbers to text, letter by letter, by CTC.

    python -m examples.speech_digits [--out runs/speech_digits] [--seed 0] [--smoke]

In goes the sound of several digits, 8 kHz, as log-mel energies, 50 frames a second, `[B, T, 32]`. Out come the letters
of the words, such as "seven two"; nobody tells the net when each is said. A bidirectional LSTM reads the frames and
says of each how probable every letter is, or the blank; connectionist temporal classification (CTC) sums over all
alignments.

The sounds are made of recordings, see `examples/spoken_digits.py`: one speaker, one take of each word. Training and
test share these ten clips; strings, speeds, loudness, pauses and noise are drawn anew for every batch. Strings of 1 to
5 digits are trained on, but for those of the validation and test parts, of 3 to 7. What is measured is how well words
are found and spelled in running sound and noise, not in another voice: for that, a second one speaks the test as well.

Texts are decoded greedily, by prefix beam search, and by beam search with a language model: the letters of the ten
words, all as probable. Its weight is chosen on the validation part. Error rates are edits a letter, and edits a word.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.spoken_digits import RATE, WORDS, allison, captcha, draw, lexicon, make_up, speak, spell
from jaxseq import data, nn, train
from jaxseq.structured import ctc
from jaxseq.train import metrics

BANDS, FRAME, HOP = 32, 0.032, 0.020  # of the mel scale; seconds
BATCH, EVERY, BEAM = 32, 100, 16
VOCABULARY = data.Vocabulary.build([" ".join(WORDS)], padding="<blank>", unknown=None)
HEARD = (5, 40)  # signal to noise in training, dB
CONDITIONS = {"quiet, 20-40 dB": (20, 40), "noisy, 10 dB": (10, 10), "noise as loud, 0 dB": (0, 0)}


def make_model(size: int, rngs: nnx.Rngs) -> nn.CTCRecognizer:
    return nn.CTCRecognizer(jaxseq.bidirectional(jaxseq.lstm(size)), BANDS, len(VOCABULARY), rngs=rngs)


def features(batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Returns log-mel energies `[B, T, BANDS]`, each band normalised over the utterance, and which frames are real."""
    mels = data.log_mel(batch["signal"], RATE, bands=BANDS, size_seconds=FRAME, hop_seconds=HOP)
    mask = data.frame_mask(batch["real"], round(FRAME * RATE), round(HOP * RATE))
    mean, deviation = (f(mels, axis=1, keepdims=True, where=mask[..., None]) for f in (jnp.mean, jnp.std))
    return jnp.where(mask[..., None], (mels - mean) / (deviation + 0.1), 0), mask


def make_batch(clips, strings: Sequence[Sequence[int]], random: np.random.Generator, decibels) -> data.Batch:
    """Returns the sound of some strings, padded to whole seconds, and the letters."""
    signal, real = data.pad([speak(clips, digits, random, decibels=decibels) for digits in strings], multiple=RATE)
    texts = [VOCABULARY.encode(spell(digits)) for digits in strings]
    labels, label_mask = data.pad(texts, length=6 * max(map(len, strings)))
    return {"signal": signal, "real": real, "labels": labels, "label_mask": label_mask}


def training(clips, lengths: Sequence[int], held_out: set[tuple[int, ...]], seed: int) -> data.Loader:
    """Returns new batches without end, EVERY an epoch; the strings of a batch are of one length: little is padding."""

    def plan(epoch):
        def batch(i):
            random, strings = np.random.default_rng([seed, epoch, i]), []
            while len(strings) < BATCH:
                string = tuple(random.integers(10, size=lengths[i % len(lengths)]).tolist())
                if string not in held_out:
                    strings.append(string)
            return make_batch(clips, strings, random, HEARD)

        return batch

    return data.Loader(EVERY, plan)


def make_loss(graph: nnx.GraphDef) -> Callable:
    """Returns the loss, nats a letter; in training, spans of time and of bands are hidden (SpecAugment)."""

    def loss_fn(params, batch, key):
        keys = (None, None) if key is None else jax.random.split(key)
        xs, mask = features(batch)
        xs = data.time_mask(keys[0], xs, spans=2, width=4, mask=mask)
        xs = data.feature_mask(keys[1], xs, spans=2, width=4)
        loss = nnx.merge(graph, params).loss(xs, batch["labels"], mask=mask, label_mask=batch["label_mask"])
        return metrics.Mean(loss.sum(), batch["label_mask"].sum()), {}

    return loss_fn


@nnx.jit
def listen(model: nn.CTCRecognizer, batch: data.Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns frames, log-probabilities and mask, time-major: `[T, B, BANDS]`, `[T, B, V]`, `[T, B]`."""
    xs, mask = features(batch)
    xs, log_probs, mask = (jnp.swapaxes(leaf, 0, 1) for leaf in (xs, model(xs, mask=mask), mask))
    return xs, log_probs, mask


def make_decoders() -> dict[str, Callable]:
    """Returns functions `(log_probs, mask, weight, bonus) -> texts`; the latter two are the language model's."""
    words = lexicon(VOCABULARY)

    def with_words(log_probs, mask, weight, bonus):
        given = {"language_model": words, "carry": jnp.zeros(mask.shape[1], int), "weight": weight, "bonus": bonus}
        return ctc.beam_search(log_probs, BEAM, mask=mask, **given)

    def of(search):
        def decode(log_probs, mask, weight, bonus):
            labels, lengths, _ = (np.asarray(leaf) for leaf in run(log_probs, mask, weight, bonus))
            if lengths.ndim == 2:  # the best of the beam
                labels, lengths = labels[..., 0], lengths[:, 0]
            return ["".join(VOCABULARY.decode(row[:n])) for row, n in zip(labels.T, lengths, strict=True)]

        run = jax.jit(search)
        return decode

    return {
        "greedy": of(lambda log_probs, mask, *_: ctc.greedy(log_probs, mask=mask)),
        "beam search": of(lambda log_probs, mask, *_: ctc.beam_search(log_probs, BEAM, mask=mask)),
        "beam and words": of(with_words),
    }


def plot(path: Path, model: nn.CTCRecognizer, batch: data.Batch, text: str) -> None:
    """Draws the first utterance of a batch: its frames, and when which letter is heard."""
    labels, (xs, log_probs, mask) = VOCABULARY.encode(text), (leaf[:, 0] for leaf in listen(model, batch))
    positions = np.asarray(jax.jit(ctc.align)(log_probs, jnp.asarray(labels), mask=mask).positions)
    T = int(mask.sum())
    probabilities, at = np.exp(np.asarray(log_probs)), HOP * np.arange(len(mask)) + FRAME / 2
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), layout="constrained", sharex=True)
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
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "speech_digits")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out = out_folder(args, "speech_digits")
    started = time.perf_counter()
    voices = {"made up": make_up()} if args.smoke else {"Allison": allison(), "captcha": captcha()}
    voice = next(iter(voices.values()))
    smoke, full = (32, 2e-2, 2, (2,), (2,), 16), (128, 4e-3, 16, (1, 2, 3, 4, 5), (3, 4, 5, 6, 7), 40)
    size, rate, epochs, learned, lengths, each = smoke if args.smoke else full

    held_out: set[tuple[int, ...]] = set()
    validation, test = (draw(lengths, each, seed, held_out) for seed in (1, 2))
    validating = make_batch(voice, validation, np.random.default_rng(3), (0, 10))
    graph, params = nnx.split(make_model(size, nnx.Rngs(args.seed)), nnx.Param)
    loss_fn = make_loss(graph)

    def tell(so_far):
        row = so_far.history[-1]
        nats = f"{row['loss']:.3f} nats a letter, validation {row['validation/loss']:.3f}"
        print(f"step {row['step']}, {row['seconds']:.0f} s: {nats}", flush=True)

    schedule = optax.warmup_cosine_decay_schedule(0, rate, EVERY * epochs // 16, EVERY * epochs)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        training(voice, learned, held_out, args.seed),
        epochs=epochs,
        validate=train.evaluator(loss_fn, [validating]),
        callbacks=[tell],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=[args.seed, args.smoke]),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png")
    train.save(args.out / "model", result.params, {"size": size, "vocabulary": VOCABULARY.to_dict()})
    model = nnx.merge(graph, train.load(args.out / "model", params).tree)

    # What do the words count, and what a letter? The validation part, in noise, says.
    decoders, references = make_decoders(), [spell(digits) for digits in validation]
    choices = list(itertools.product((0.3, 0.6, 1.0), (0.0, 1.0, 2.0)))
    heard = listen(model, validating)[1:]
    rates = [
        metrics.character_error_rate(references, decoders["beam and words"](*heard, *choice)) for choice in choices
    ]
    chosen = choices[int(np.argmin(rates))]
    print(f"the words' weight {chosen[0]}, a letter's bonus {chosen[1]}: validation CER {min(rates):.2%}")

    # The test part, once.
    references = [spell(digits) for digits in test]
    parts = {f"{name}, {how}": (clips, db) for name, clips in voices.items() for how, db in CONDITIONS.items()}
    print(f"\n{len(test)} strings, {sum(map(len, test))} words")
    print(f"{'':30}" + "".join(f"{name:>23}" for name in decoders))
    print(f"{'test part':30}" + f"{'CER':>15}{'WER':>8}" * len(decoders))
    for name, (clips, decibels) in parts.items():
        heard, numbers = listen(model, make_batch(clips, test, np.random.default_rng(4), decibels))[1:], ""
        for decode in decoders.values():
            texts = decode(*heard, *chosen)
            cer, wer = (f(references, texts) for f in (metrics.character_error_rate, metrics.word_error_rate))
            numbers += f"{cer:15.2%}{wer:8.2%}"
        print(f"{name:30}{numbers}", flush=True)

    batch = make_batch(voice, test, np.random.default_rng(5), (10, 10))
    plot(args.out / "alignment.png", model, batch, references[0])
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
