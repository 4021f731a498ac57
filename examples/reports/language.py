"""Language models of characters: how much there is to read, bits beside n-grams, curves, and what is written."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from examples.data.works import END, encode
from jaxseq import data, nn, train

UNSEEN = "□"


def print_sizes(parts: list[list[np.ndarray]], symbols: int, *, unknown: bool) -> None:
    """Prints how many works and characters each part has, and, if `unknown`, the share of those not known."""
    for name, part in zip(("to train on", "to validate", "to test"), parts, strict=True):
        ids = np.concatenate([document[1:] for document in part])
        share = f", {np.mean(ids == 1):.1%} unknown" if unknown else ""
        print(f"{len(part)} works {name}, {len(ids):,} characters{share}")
    print(f"{symbols} symbols", flush=True)


def print_rows(last: int) -> Callable[[train.Fit], bool]:
    """Returns the callback that prints a row, and ends a run after the step numbered `last`."""

    def tell(fitted):
        row = fitted.history[-1]
        bits = f"bits per character {row['bits']:.3f}, validation {row['validation/bits']:.3f}"
        print(f"step {row['step']}, epoch {row['epoch']:.2f}, {row['seconds']:.0f} s: {bits}", flush=True)
        return row["step"] >= last

    return tell


def mix(network: np.ndarray, grams: np.ndarray, share: float) -> float:
    """Returns the mean bits where a probability is `share` of the network's and the rest of the n-gram's."""
    return float(-np.log2(share * 2**-network + (1 - share) * 2**-grams).mean())


def print_scores(network: list[np.ndarray], grams: list[np.ndarray], best: int) -> None:
    """Prints the mean bits in the validation and in the test part.

    Args:
      network: of each part, the bits `[N]` of its ids.
      grams: those of n-grams, by order, `[orders, N]`.
      best: the place of the order that stands beside the network and is mixed with it, by the share that suits the
        validation part.
    """
    share = min(np.linspace(0, 1, 21), key=lambda share: mix(network[0], grams[0][best], share))
    rows = {"network": [part.mean() for part in network]}
    rows[f"{share:.0%} network, rest n-gram"] = [
        mix(*both, share) for both in zip(network, (part[best] for part in grams), strict=True)
    ]
    for order in range(len(grams[0])):
        rows[f"n-gram, order {order + 1}" + " (chosen)" * (order == best)] = [part[order].mean() for part in grams]
    print(f"\n{'bits per character':26}{'validation':>12}{'test':>8}")
    for name, (on_validation, on_test) in rows.items():
        print(f"{name:26}{on_validation:12.3f}{on_test:8.3f}")


def print_samples(model: nn.LanguageModel, vocabulary: data.Vocabulary, prompt: str, length: int, seed: int) -> None:
    """Prints the prompt and what the model writes after it, up to the end of the work, at several temperatures."""
    ids = jnp.asarray(encode(vocabulary, prompt)[None, :-1])
    write = nnx.jit(nn.LanguageModel.generate, static_argnums=2)
    for temperature, top_p in ((0.5, 1.0), (0.8, 1.0), (1.0, 1.0), (1.0, 0.9)):
        written = write(model, ids, length, key=jax.random.key(seed), temperature=temperature, top_p=top_p)[0]
        text = "".join(UNSEEN if token == vocabulary.unknown else token for token in vocabulary.decode(written))
        print(f"\n--- temperature {temperature}, top_p {top_p} ---\n{prompt}{text.partition(END)[0]}", flush=True)


def plot_curves(history: list[dict[str, float]], lines: dict[str, float], path: Path) -> None:
    """Draws the bits of a history, and lines beside them, by name."""
    figure = train.curves.plot(history, names=("bits",))
    axes = figure.axes[0]
    for number, (name, bits) in enumerate(lines.items()):
        axes.axhline(bits, color=f"C{number + 2}", linestyle="--", linewidth=1, label=name)
    axes.set(ylabel="bits per character", title="The text to train on, and the validation part")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
