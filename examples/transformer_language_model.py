"""A Transformer next to an LSTM: two language models of characters, trained for as long as each other.

    python -m examples.transformer_language_model [--out runs/transformer_language_model] [--seconds 180] [--smoke]

In goes a text, character by character; out comes the probability of the next one. The text is that of
`examples.language_model`: Shakespeare, 42 works, of which whole plays are held out. Both nets are an `nn.LanguageModel`
without embedded n-grams; what differs is the layer inside, and what it knows of the text so far. The LSTM hands its
carry on from batch to batch, and has read the whole play up to here. The Transformer sees windows of T characters, and
nothing before. Where it is scored they overlap by a half: a character is predicted from T / 2 to T of those before it,
or from all where there are fewer.

Both train for the same seconds, validation and compilation not counted: the learning rate is a function of the seconds
so far, not of the steps, and at their end it is zero. A few learning rates, and of the Transformer windows, heads and
blocks, were tried on the validation part; widths were not. The test part is looked at once, by the models reloaded from
their files, beside n-grams with modified Kneser-Ney smoothing. A run that was stopped goes on where it was; one that
has ended is only evaluated again.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import jaxseq
from examples import options, out_folder, positive
from examples.language_model import END, Parts, bits_by_id, encode, load_shakespeare, make_up, read_on, shuffled_pieces
from examples.ngrams import bits_by_order
from examples.timed_steps import TimedStep, timed
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

HEAD = 20_000  # characters of a play that are read where validation is only for the curve


class Net(NamedTuple):
    layer: Callable[[nnx.Rngs], jaxseq.Cell | jaxseq.Composite | nn.Layer]
    features: int  # of an embedding
    batch: tuple[int, int]  # B, T
    learning_rate: float
    carried: bool  # from batch to batch; else a batch is windows of their own
    every: int  # steps to a validation


class Setup(NamedTuple):
    load: Callable[[], Parts]
    nets: dict[str, Net]
    clock: Callable[[], float]  # of training, in seconds
    orders: int  # of n-grams, at most
    order: int  # that is told beside the best one
    sample: int  # characters to write


def transformer(size: int, layers: int, heads: int, length: int) -> Callable[[nnx.Rngs], nn.Transformer]:
    given = {"layers": layers, "heads": heads, "causal": True, "max_length": length}
    return lambda rngs: nn.Transformer(size, size, positions="rotary", **given, rngs=rngs)


NETS = {
    "LSTM": Net(lambda rngs: jaxseq.lstm(256), 128, (32, 32), 1e-2, True, 400),
    "Transformer": Net(transformer(128, 2, 2, 64), 128, (8, 64), 2e-3, False, 800),
}
SMALL = {
    "LSTM": Net(lambda rngs: jaxseq.lstm(24), 16, (8, 16), 3e-2, True, 5),
    "Transformer": Net(transformer(16, 1, 2, 16), 16, (8, 16), 2e-2, False, 5),
}
FULL = Setup(load_shakespeare, NETS, time.perf_counter, 9, 5, 500)
SMOKE = Setup(make_up, SMALL, itertools.count().__next__, 3, 2, 15)  # a step is a second


def make_model(net: Net, size: int, seed: int) -> nn.LanguageModel:
    rngs = nnx.Rngs(seed)
    return nn.LanguageModel(net.layer(rngs), size, net.features, rngs=rngs)


def make_loss(graph: nnx.GraphDef, carried: bool) -> Callable:
    def read(params, batch, key, carry):
        model = nnx.merge(graph, params)
        carry, logits = model.unroll(batch["xs"], carry, mask=batch["mask"], reset=batch["reset"], key=key)
        nats = losses.cross_entropy(logits, batch["targets"], mask=batch["scored"])
        bits = {"bits": metrics.mean(nats / math.log(2), mask=batch["scored"])}
        return metrics.mean(nats, mask=batch["scored"]), bits, carry

    return read if carried else lambda params, batch, key: read(params, batch, key, None)[:2]


def streams(documents: Sequence[np.ndarray], batch: tuple[int, int]) -> data.Loader:
    """Returns batches that go on from one another; without a carry, windows side by side."""
    return data.streams(documents, *batch).map(lambda batch: {**batch, "scored": batch["mask"]})


def windows(documents: Sequence[np.ndarray], batch: tuple[int, int]) -> data.Loader:
    """Returns windows of T that overlap by a half; a character is scored once, where most others stand before it."""
    B, T = batch
    places = [(d, i) for d in documents for i in range(0, max(len(d) - 1 - T // 2, 1), T // 2)]
    xs, mask = data.pad([document[i : i + T + 1][:-1] for document, i in places], length=T)
    targets = data.pad([document[i + 1 : i + T + 1] for document, i in places], length=T).xs
    first = np.array([[i == 0] for _, i in places])
    arrays = {"xs": xs, "targets": targets, "mask": mask, "scored": mask & (first | (np.arange(T) >= T // 2))}
    return data.batches({**arrays, "reset": np.zeros_like(mask)}, B, last="pad")


def fit(name: str, net: Net, setup: Setup, size: int, parts: list[list[np.ndarray]], args) -> train.Fit:
    graph, params = nnx.split(make_model(net, size, args.seed), nnx.Param)
    carry = nnx.merge(graph, params).initial_carry(net.batch[:1]) if net.carried else None
    rate = optax.warmup_cosine_decay_schedule(0, net.learning_rate, args.seconds / 20, args.seconds)  # of seconds
    optimizer = timed(lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99)), rate)
    loss_fn = make_loss(graph, net.carried)
    batches, read = streams(shuffled_pieces(parts[0]), net.batch), streams if net.carried else windows
    heads = [document[: HEAD + 1] for document in parts[1]]
    measure = train.evaluator(loss_fn, read(heads, net.batch), carry=carry)
    step = TimedStep(train.make_step(loss_fn, optimizer), setup.clock)

    def make_state():
        return train.init(params, optimizer, jax.random.key(args.seed), carry=carry)

    def validate(params):
        found = {**measure(params), "seconds": step.seconds}
        step.start()
        return found

    def tell(so_far):
        """Prints a row; ends the run when the seconds are over."""
        row = so_far.history[-1]
        bits = f"bits per character {row['bits']:.3f}, validation {row['validation/bits']:.3f}"
        print(f"{name}, step {row['step']}, {row['validation/seconds']:.0f} s: {bits}", flush=True)
        return row["validation/seconds"] >= args.seconds

    if not train.saved(args.out / name / "checkpoints"):
        step(make_state(), next(batches.epoch(0)))  # compiled before the clock starts
    step.start()
    settings = {"net": repr(net[1:]), "seconds": args.seconds, "seed": args.seed}
    return train.fit(
        step,
        make_state(),
        batches,
        epochs=100,
        every=net.every,
        validate=validate,
        callbacks=[tell],
        checkpoints=train.Checkpoints(args.out / name / "checkpoints", keep=1, settings=settings),
        progress=True,
    )


def load(folder: Path, net: Net) -> tuple[nn.LanguageModel, data.Vocabulary]:
    """Returns the model that was saved, and its vocabulary."""
    vocabulary = data.Vocabulary.from_dict(train.load_info(folder)["vocabulary"])
    graph, params = nnx.split(make_model(net, len(vocabulary), 0), nnx.Param)
    return nnx.merge(graph, train.load(folder, params).tree), vocabulary


def bits_of(model: nn.LanguageModel, net: Net, documents: list[np.ndarray]) -> float:
    """Returns the mean bits of works: each read from its start to its end, or in windows."""
    if net.carried:
        return float(bits_by_id(model, documents).mean())
    bits = []
    for batch in windows(documents, net.batch).epoch(0):
        _, found = read_on(model, None, *(batch[name] for name in ("xs", "targets", "mask")))
        bits.append(np.asarray(found)[batch["scored"]])
    return float(np.concatenate(bits).mean())


generate = nnx.jit(nn.LanguageModel.generate, static_argnums=2)


def write(model: nn.LanguageModel, net: Net, prompt: np.ndarray, length: int, key: jax.Array) -> np.ndarray:
    """Returns the prompt `[P]` and what the model writes after it, ids `[P + length]`.

    A Transformer whose window is full goes on from the last half of it.
    """
    room, ids = len(prompt) + length if net.carried else net.batch[1], prompt
    while len(ids) < len(prompt) + length:
        seen = ids if len(ids) < room else ids[-(room // 2) :]
        more = generate(model, seen[None], room - len(seen), key=jax.random.fold_in(key, len(ids)), temperature=0.8)
        ids = np.concatenate([ids, more[0]])
    return ids[: len(prompt) + length]


def plot_curves(histories: dict[str, list[dict[str, float]]], lines: dict[str, float], path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        bits = [row["validation/bits"] for row in history]
        axes.plot([row["validation/seconds"] for row in history], bits, marker="o", markersize=3, label=name)
    for number, (name, bits) in enumerate(lines.items(), len(histories)):
        axes.axhline(bits, color=f"C{number}", linestyle="--", linewidth=1, label=name)
    axes.set(
        xlabel="seconds of training",
        ylabel="bits per character",
        title=f"The first {HEAD:,} characters of each validation play",
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "transformer_language_model")
    parser.add_argument("--seconds", type=positive, default=180, help="of training, for each net; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "transformer_language_model")
    started, setup = time.perf_counter(), SMOKE if args.smoke else FULL
    args.seconds = 60 if args.smoke else args.seconds
    parts = setup.load()
    vocabulary = data.Vocabulary.build(parts[0], specials=(END,))
    documents = [[encode(vocabulary, text) for text in part] for part in parts]
    for name, part in zip(("to train on", "to validate", "to test"), documents, strict=True):
        print(f"{len(part)} works {name}, {sum(len(document) - 1 for document in part):,} characters")
    print(f"{len(vocabulary)} symbols", flush=True)

    histories = {}
    for name, net in setup.nets.items():
        result = fit(name, net, setup, len(vocabulary), documents, args)
        histories[name] = result.history
        train.save(args.out / name / "model", result.params, {"vocabulary": vocabulary.to_dict()})

    grams = bits_by_order(documents[0], documents[1] + documents[2], len(vocabulary), setup.orders)
    on_validation, on_test = np.split(grams, [sum(len(document) - 1 for document in documents[1])], axis=1)
    best = int(on_validation.mean(axis=1).argmin()) + 1
    orders = {f"n-gram, order {setup.order}": setup.order, f"n-gram, order {best} (best)": best}
    head = np.concatenate([np.arange(len(document) - 1) < HEAD for document in documents[1]])
    lines = {name: on_validation[order - 1, head].mean() for name, order in orders.items()}
    plot_curves(histories, lines, args.out / "curves.png")

    print(f"\n{'bits per character':26}{'validation':>11}{'test':>7}{'steps':>7}{'characters':>12}", end="")
    print(f"{'a step':>10}{'seconds':>9}{'params':>11}")
    samples = {}
    for name, net in setup.nets.items():
        model, vocabulary = load(args.out / name / "model", net)  # as it is stored
        bits = [bits_of(model, net, part) for part in documents[1:]]
        steps, seconds = (histories[name][-1][key] for key in ("step", "validation/seconds"))
        params = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        print(f"{name:26}{bits[0]:11.3f}{bits[1]:7.3f}{steps:7,}{steps * math.prod(net.batch):12,}", end="")
        print(f"{1e3 * seconds / steps:7.1f} ms{seconds:9.0f}{params:11,}", flush=True)
        written = write(model, net, encode(vocabulary, "")[:1], setup.sample, jax.random.key(args.seed))
        samples[name] = "".join(vocabulary.decode(written[1:])).partition(END)[0]
    for name, order in orders.items():
        print(f"{name:26}{on_validation[order - 1].mean():11.3f}{on_test[order - 1].mean():7.3f}")
    for name, sample in samples.items():
        print(f"\n--- {name}, temperature 0.8 ---\n{sample}")
    print(f"\n{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
