"""Speech: spoken numbers to text, letter by letter, by CTC.

    python -m examples.speech_digits [--out runs/speech_digits] [--seed 0] [--smoke]

In goes the sound of several digits, 8 kHz, as log-mel energies, 50 frames a second, `[B, T, 32]`. Out come the letters
of the words, such as "seven two"; nobody tells the net when each is said. A bidirectional LSTM reads the frames and
says of each how probable every letter is, or the blank; connectionist temporal classification (CTC) sums over all
alignments.

The sounds are made of recordings, see `examples/data/spoken_digits.py`: one speaker, one take of each word. Training
and test share these ten clips; strings, speeds, loudness, pauses and noise are drawn anew for every batch. Strings of 1
to 5 digits are trained on, but for those of the validation and test parts, of 3 to 7. What is measured is how well
words are found and spelled in running sound and noise, not in another voice: for that, a second one speaks the test as
well.

Texts are decoded greedily, by prefix beam search, and by beam search with a language model: the letters of the ten
words, all as probable. Its weight is chosen on the validation part. Error rates are edits a letter, and edits a word.
"""

import itertools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.data.digit_strings import EVERY, VOCABULARY, make_batch, training
from examples.data.spoken_digits import allison, captcha, draw, made_up, spell
from examples.reports.speech_digits import plot, print_header, print_rates, print_row
from examples.shared.spectra import BANDS, features
from examples.shared.spellers import make_decoders
from jaxseq import data, nn, train
from jaxseq.train import metrics

CONDITIONS = {"quiet, 20-40 dB": (20, 40), "noisy, 10 dB": (10, 10), "noise as loud, 0 dB": (0, 0)}


def make_model(size: int, rngs: nnx.Rngs) -> nn.CTCRecognizer:
    return nn.CTCRecognizer(jaxseq.bidirectional(jaxseq.lstm(size)), BANDS, len(VOCABULARY), rngs=rngs)


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


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "speech_digits")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "speech_digits")
    started = time.perf_counter()
    voices = {"made up": made_up()} if args.smoke else {"Allison": allison(), "captcha": captcha()}
    voice = next(iter(voices.values()))
    smoke, full = (32, 2e-2, 2, (2,), (2,), 16), (128, 4e-3, 16, (1, 2, 3, 4, 5), (3, 4, 5, 6, 7), 40)
    size, rate, epochs, learned, lengths, each = smoke if args.smoke else full

    held_out: set[tuple[int, ...]] = set()
    validation, test = (draw(lengths, each, seed, held_out) for seed in (1, 2))
    validating = make_batch(voice, validation, np.random.default_rng(3), (0, 10))
    graph, params = nnx.split(make_model(size, nnx.Rngs(args.seed)), nnx.Param)
    loss_fn = make_loss(graph)
    schedule = optax.warmup_cosine_decay_schedule(0, rate, EVERY * epochs // 16, EVERY * epochs)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        training(voice, learned, held_out, args.seed),
        epochs=epochs,
        validate=train.evaluator(loss_fn, [validating]),
        callbacks=[print_row],
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
    print_header(test, list(decoders))
    for name, (clips, decibels) in parts.items():
        heard = listen(model, make_batch(clips, test, np.random.default_rng(4), decibels))[1:]
        print_rates(name, references, [decode(*heard, *chosen) for decode in decoders.values()])

    batch = make_batch(voice, test, np.random.default_rng(5), (10, 10))
    xs, log_probs, mask = (leaf[:, 0] for leaf in listen(model, batch))
    plot(args.out / "alignment.png", xs, log_probs, mask, references[0])
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
