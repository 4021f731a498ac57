"""Sound and text in one model: does this text say what is spoken in this recording?

    python -m examples.speech_and_text [--out runs/speech_and_text] [--seed 0] [--smoke]

In go a sound, 8 kHz, as log-mel energies of 40 ms, `[B, T, 64]`, and a text, letter by letter, `[B, S]`. Out comes a
score of the pair. A bidirectional GRU reads the frames, another one the letters; every letter looks for the frames that
say it, by attention, and the score is how like it they are, the mean of the cosines. The data are telephone prompts,
one speaker, see `examples/data/spoken_prompts.py`. No text that is tested is trained on, in any recording.

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
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import durations
from examples.data.prompt_batches import EVERY, VOCABULARY, as_batch, training
from examples.data.spoken_prompts import asterisk, made_up
from examples.reports.matching import by_each, plot_attention, plot_scores, print_row, print_scores
from examples.shared.comparison import compare
from examples.shared.spectra import BANDS, TOGETHER, wide_features
from jaxseq import data, nn, train
from jaxseq.structured import ctc


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


def make_loss(graph: nnx.GraphDef) -> Callable:
    """Returns the loss: cross-entropy of the matching text and of the matching sound, and of the spelling."""

    def loss_fn(params, batch, key):
        keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        model, (xs, mask) = nnx.merge(graph, params), wide_features(batch)
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "speech_and_text")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
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

    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        training(train_part, batch_size, most, args.seed),
        epochs=epochs,
        validate=train.evaluator(loss_fn, [validating]),
        callbacks=[print_row],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=[args.seed, args.smoke]),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png", names=("loss", "accuracy", "spelling"))
    train.save(args.out / "model", result.params, {"size": size, "vocabulary": VOCABULARY.to_dict()})
    model = nnx.merge(graph, train.load(args.out / "model", params).tree)

    # The test part, once. What needs choosing was chosen on the validation part.
    found = [
        jax.tree.map(np.asarray, compare(model, *wide_features(batch), batch)) for batch in (validating, as_batch(test))
    ]
    attention, spelling = [part.attention for part in found], [part.ctc for part in found]
    duration = [durations.by_duration(train_part, part) for part in (validation, test)]
    print_scores(by_each(attention, spelling, duration, validation.texts), validation.texts, test.texts)
    plot_scores(args.out / "scores.png", attention[1], test.texts)
    row = next(row for row, text in enumerate(test.texts) if len(text) < 40 and (args.smoke or len(text) > 25))
    plot_attention(args.out / "attention.png", found[1], row, test.texts[row])
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
