"""Sound and text in one model: does this text say what is spoken in this recording?

    python -m examples.speech_and_text [--out runs/speech_and_text] [--seed 0] [--smoke]

In go a sound, 8 kHz, as log-mel energies of 40 ms, `[B, T, 64]`, and a text, letter by letter, `[B, S]`. Out comes a
score of the pair. A bidirectional GRU reads the frames, another one the letters; every letter looks for the frames that
say it, by attention, and the score is how like it they are, the mean of the cosines. The data are telephone prompts,
one speaker, see `examples/spoken_prompts.py`. No text that is tested is trained on, in any recording.

In training each sound is scored with each text of its batch, and the matching one is to be found from either side: the
cross-entropy over rows and over columns (InfoNCE, as CLIP does). The texts of a batch are about as long, so that length
hardly tells. Beside it the frames are to spell the text, by connectionist temporal classification (CTC). A batch is
made of recordings, up to three in a row, at new speeds and in noise, with spans of time and of bands hidden.

That gives two scores: of attention, and the log-probability a letter that CTC gives to the text. A third one, the
baseline, knows no more than lengths: how many seconds the sound is off from a linear regression on the letters.

Neither input tells by itself: every sound and every text that is tested stands in one pair that matches and in one
that does not. So a function of one of them alone is right in half of the cases, as the last rows show: a sound's mean
score with all texts, and a text's with all sounds. Thresholds and the weights of the three scores together are those
that suit the validation part. Texts that are exchanged for one another are any two, or two of about one length.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import jaxseq
from examples import options, out_folder
from examples.matching import by_duration, combine, decisions, places, plot_scores
from examples.spoken_digits import RATE, speak
from examples.spoken_prompts import SECONDS, Prompts, asterisk, made_up
from jaxseq import data, nn, train
from jaxseq.structured import ctc

BANDS, FRAME, HOP, TOGETHER = 32, 0.032, 0.020, 2  # of the mel scale; seconds; frames that are read as one
SPOKEN, LETTERS = round(1.875 * RATE), 28  # shapes are once, twice, four times these: samples, and letters
VOCABULARY = data.Vocabulary.build(["abcdefghijklmnopqrstuvwxyz "], padding="<blank>", unknown=None)
EVERY = 50


class Matcher(nnx.Module):
    """Scores of sounds and texts, by attention of the letters over the frames."""

    def __init__(self, size: int, rngs: nnx.Rngs):
        net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(size)), outputs=0.3)
        self.listen = nn.Recurrent(net, TOGETHER * BANDS, rngs=rngs)
        self.embed = nnx.Embed(len(VOCABULARY), size, rngs=rngs)
        self.read = nn.Recurrent(net, size, rngs=rngs)
        self.key, self.query, self.spell = (
            nnx.Linear(2 * size, features, rngs=rngs) for features in (size, size, len(VOCABULARY))
        )
        self.attention = nn.Attention(size, size, score="dot", rngs=rngs)
        self.sharpness, self.scale = (nnx.Param(jnp.full((), math.log(value), float)) for value in (8, 20))

    def hear(self, xs: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Returns every other frame as the letters see it, `[A, T / 2, F]`, and log-probabilities `[A, T, V]`."""
        ys = self.listen(xs, mask=mask, key=key)
        return unit(self.key(ys[:, ::2])), jax.nn.log_softmax(self.spell(ys))

    def understand(self, ids: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns what the letters look for, `[B, S, F]`."""
        return unit(self.query(self.read(self.embed(ids), mask=mask, key=key)))

    def score(
        self, frames: jax.Array, mask: jax.Array, letters: jax.Array, letter_mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the scores of all pairs, `[A, B]`, and where each letter looks, `[A, B, S, T / 2]`."""
        A, (B, S, F) = len(frames), letters.shape
        letters = jnp.broadcast_to(letters.reshape(1, B * S, F), (A, B * S, F))
        memory = self.attention.remember(frames, mask=mask[:, ::2])
        seen, weights = self.attention(jnp.exp(self.sharpness[...]) * letters, memory)
        cosines = jnp.sum(unit(seen) * letters, axis=-1).reshape(A, B, S)
        return jnp.exp(self.scale[...]) * jnp.mean(cosines, axis=-1, where=letter_mask), weights.reshape(A, B, S, -1)


def unit(xs: jax.Array) -> jax.Array:
    return xs / jnp.sqrt(jnp.sum(jnp.square(xs), axis=-1, keepdims=True) + 1e-6)


def features(batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Returns log-mel energies `[B, T, TOGETHER × BANDS]`, each band normalised over the sound, and what is real."""
    mels = data.log_mel(batch["signal"], RATE, bands=BANDS, size_seconds=FRAME, hop_seconds=HOP)
    mask = data.frame_mask(batch["real"], round(FRAME * RATE), round(HOP * RATE))
    mean, deviation = (f(mels, axis=1, keepdims=True, where=mask[..., None]) for f in (jnp.mean, jnp.std))
    mels = jnp.where(mask[..., None], (mels - mean) / (deviation + 0.1), 0)
    T = mels.shape[1] // TOGETHER
    return mels[:, : T * TOGETHER].reshape(len(mels), T, -1), mask[:, TOGETHER - 1 :: TOGETHER]


def make_batch(sounds: Sequence[np.ndarray], texts: Sequence[str]) -> data.Batch:
    """Returns sounds and texts, both padded to as many of their units, a power of two: few shapes are compiled."""
    units = max(max(map(len, sounds)) / SPOKEN, max(map(len, texts)) / LETTERS)
    units = 2 ** max(0, math.ceil(math.log2(units)))
    signal, real = data.pad(sounds, length=units * SPOKEN)
    ids, letter_mask = data.pad([VOCABULARY.encode(text) for text in texts], length=units * LETTERS)
    return {"signal": signal, "real": real, "ids": ids, "letter_mask": letter_mask}


def as_batch(part: Prompts) -> data.Batch:
    """Returns a part as it is, but for the loudness and noise 30 dB below the voice."""
    spoken = [
        speak(part.sounds, [row], np.random.default_rng(row), decibels=(30, 30), spread=0)
        for row in range(len(part.texts))
    ]
    return make_batch(spoken, part.texts)


def training(part: Prompts, size: int, most: int, seed: int) -> data.Loader:
    """Returns new batches without end: one to `most` recordings, one after the other, of about as many letters."""

    def plan(epoch):
        def batch(i):
            random, drawn = np.random.default_rng([seed, epoch, i]), {}
            while len(drawn) < 4 * size:
                rows = random.integers(len(part.texts), size=1 + i % most)
                if sum(len(part.sounds[row]) for row in rows) <= SECONDS * RATE:
                    drawn[" ".join(part.texts[row] for row in rows)] = rows  # no text twice
            start = random.integers(3 * size)
            texts = sorted(drawn, key=len)[start : start + size]
            given = {"decibels": (5, 40), "spread": 0.15}
            return make_batch([speak(part.sounds, drawn[text], random, **given) for text in texts], texts)

        return batch

    return data.Loader(EVERY, plan)


def make_loss(graph: nnx.GraphDef) -> Callable:
    """Returns the loss: cross-entropy of the matching text and of the matching sound, and of the spelling."""

    def loss_fn(params, batch, key):
        keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        model, (xs, mask) = nnx.merge(graph, params), features(batch)
        ids, letter_mask = batch["ids"], batch["letter_mask"]
        xs = data.time_mask(keys[0], xs, spans=2, width=6, mask=mask)
        hidden = data.feature_mask(keys[1], xs.reshape(len(xs), -1, BANDS), spans=2, width=4)
        frames, log_probs = model.hear(hidden.reshape(xs.shape), mask, keys[2])
        scores, _ = model.score(frames, mask, model.understand(ids, letter_mask, keys[3]), letter_mask)
        match = jnp.arange(len(scores))
        both = [train.losses.cross_entropy(logits, match) for logits in (scores, scores.T)]
        spelling = ctc.loss(jnp.swapaxes(log_probs, 0, 1), ids.T, mask=mask.T, label_mask=letter_mask.T)
        spelling = jnp.where(jnp.isfinite(spelling), spelling, 0).sum() / letter_mask.sum()  # inf: spoken too fast
        accuracy = train.metrics.accuracy(scores.argmax(axis=1), match)
        return jnp.mean(jnp.stack(both)) + spelling, {"accuracy": accuracy, "spelling": spelling}

    return loss_fn


class Compared(NamedTuple):
    """What comes of N sounds and N texts."""

    attention: jax.Array  # [N, N], scores of each sound with each text
    ctc: jax.Array  # [N, N], log-probabilities a letter
    xs: jax.Array  # [N, T, TOGETHER × BANDS], the frames
    mask: jax.Array  # bool [N, T]
    weights: jax.Array  # [N, S, T / 2], where the letters of each sound's own text look


@nnx.jit
def compare(model: Matcher, batch: data.Batch) -> Compared:
    """Compares each sound with each text."""
    (xs, mask), letter_mask = features(batch), batch["letter_mask"]
    (frames, log_probs), letters = model.hear(xs, mask), model.understand(batch["ids"], letter_mask)

    def one(sound):  # after the other: all of them at once would take much memory
        number, frames, log_probs, mask = sound
        scores, weights = model.score(frames[None], mask[None], letters, letter_mask)
        log_probs, time_mask = (jnp.repeat(leaf[:, None], len(letters), axis=1) for leaf in (log_probs, mask))
        nll = ctc.loss(log_probs, batch["ids"].T, mask=time_mask, label_mask=letter_mask.T)
        nll = jnp.minimum(nll / letter_mask.sum(axis=1), 100)  # not inf, where the text is too long
        return scores[0], -nll, weights[0, number]

    attention, log_likelihood, weights = jax.lax.map(one, (jnp.arange(len(xs)), frames, log_probs, mask))
    return Compared(attention, log_likelihood, xs, mask, weights)


def plot_attention(path: Path, xs: np.ndarray, weights: np.ndarray, text: str) -> None:
    """Draws the frames of a sound, and where the letters of its text look, `[S, T / 2]`."""
    mels = xs.reshape(-1, BANDS)
    extent = (0, HOP * len(mels))
    figure = Figure(figsize=(9, 0.15 * len(text) + 3), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 0.15 * len(text)))
    top.imshow(mels.T, origin="lower", aspect="auto", extent=(*extent, 0, BANDS), cmap="magma")
    top.set(ylabel="mel band", title="Log-mel energies, and where each letter looks")
    bottom.imshow(weights, aspect="auto", extent=(*extent, len(text) - 0.5, -0.5), cmap="Blues")
    bottom.set(yticks=range(len(text)), yticklabels=text.replace(" ", "␣"), xlabel="seconds", ylabel="text")
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "speech_and_text")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out = out_folder(args, "speech_and_text")
    started = time.perf_counter()
    size, rate, epochs, batch_size, most = (16, 2e-2, 2, 8, 1) if args.smoke else (64, 4e-3, 16, 24, 3)
    train_part, validation, test = (made_up(90) if args.smoke else asterisk()).split()
    print(f"{len(train_part.texts)} recordings of {len(set(train_part.texts))} texts to train on, ", end="")
    print(f"{len(validation.texts)} to validate, {len(test.texts)} to test")

    graph, params = nnx.split(Matcher(size, nnx.Rngs(args.seed)), nnx.Param)
    loss_fn, validating = make_loss(graph), as_batch(validation)
    adam = optax.adamw(optax.warmup_cosine_decay_schedule(0, rate, EVERY * epochs // 16, EVERY * epochs))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)

    def tell(so_far):
        row = so_far.history[-1]
        numbers = ", ".join(f"{name} {row[f'validation/{name}']:.3f}" for name in ("loss", "accuracy", "spelling"))
        print(f"step {row['step']}, {row['seconds']:.0f} s: loss {row['loss']:.3f}, validation {numbers}", flush=True)

    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        training(train_part, batch_size, most, args.seed),
        epochs=epochs,
        validate=train.evaluator(loss_fn, [validating]),
        callbacks=[tell],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=[args.seed, args.smoke]),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png", names=("loss", "accuracy", "spelling"))
    train.save(args.out / "model", result.params, {"size": size, "vocabulary": VOCABULARY.to_dict()})
    model = nnx.merge(graph, train.load(args.out / "model", params).tree)

    # The test part, once. What needs choosing was chosen on the validation part.
    found = [jax.tree.map(np.asarray, compare(model, batch)) for batch in (validating, as_batch(test))]
    attention, spelling = [part.attention for part in found], [part.ctc for part in found]
    duration = [by_duration(train_part, part) for part in (validation, test)]
    methods = {
        "attention": attention,
        "CTC": spelling,
        "duration": duration,
        "all three": combine([attention, spelling, duration], validation.texts),
        "sound alone": [np.broadcast_to(scores.mean(axis=1, keepdims=True), scores.shape) for scores in attention],
        "text alone": [np.broadcast_to(scores.mean(axis=0), scores.shape) for scores in attention],
    }
    print(f"\n{'test part,':22}{'with any other text':>36}{'with one as long':>36}{'its text among all':>24}")
    columns = 2 * f"{'accuracy':>12}{'prec.':>8}{'recall':>8}{'F1':>8}"
    print(f"{f'{len(test.texts)} + {len(test.texts)} pairs':22}{columns}{'first':>9}{'in 5':>8}{'MRR':>7}")
    for name, (known, scores) in methods.items():
        numbers, place = "", places(scores)
        for alike in (False, True):
            accuracy, *others = decisions(scores, test.texts, (known, validation.texts), alike=alike)
            numbers += f"{accuracy:12.1%}" + "".join(f"{number:8.1%}" for number in others)
        print(f"{name:22}{numbers}{np.mean(place <= 1):9.1%}{np.mean(place <= 5):8.1%}{np.mean(1 / place):7.3f}")

    shown = np.argsort([len(text) for text in test.texts], kind="stable")[:: max(len(test.texts) // 20, 1)]
    plot_scores(args.out / "scores.png", attention[1][np.ix_(shown, shown)], [test.texts[row] for row in shown])
    row = next(row for row, text in enumerate(test.texts) if len(text) < 40 and (args.smoke or len(text) > 25))
    real, seen = found[1].mask[row], found[1].weights[row]
    weights = seen[: len(test.texts[row]), : len(real[::2][real[::2]])]
    plot_attention(args.out / "attention.png", found[1].xs[row][real], weights, test.texts[row])
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
