"""Newton's method over time: how many rounds does it take? The largest Lyapunov exponent tells. No data, no training.

    python -m examples.newton_rounds [--smoke] [--seeds 3] [--out runs/newton_rounds]

A random RNN, h' = tanh(x + h W) with W orthogonal times a gain and inputs ~ N(0, 0.5²), forgets where it started while
the gain is small, and is chaotic where it is large (Sompolinsky, Crisanti & Sommers 1988). `kernels.newton` solves for
all steps at once, in rounds; where they do not converge it takes the loop, so that its results are those of `scan`
either way, which is checked here for every net.

In theory (Gonzalez et al. 2025): below an exponent λ of 0 the number of rounds hardly depends on T; above it the
problem's condition grows like e^{λT}, and each round puts few more steps right, so that they are of the order of T.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxseq
from examples import options, out_folder, positive
from examples.reports.newton import MOST, Run, plot, table
from jaxseq import diagnostics, kernels

GAINS = (0.5, 0.8, 1.0, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 2.0, 2.5, 3.5)
LENGTHS = (1000, 4000, 16000)
H = 12
CELL = jaxseq.rnn(H)


def draw(seed: int, gain: float, T: int) -> tuple[jaxseq.RnnParams, jax.Array]:
    """Returns params, and inputs `[T, H]`."""
    generator = np.random.default_rng(seed)
    w_h = jnp.asarray(gain * np.linalg.qr(generator.normal(size=(H, H)))[0])
    return jaxseq.RnnParams(jnp.eye(H), w_h, jnp.zeros(H)), jnp.asarray(0.5 * generator.normal(size=(T, H)))


@jax.jit
def exponent_of(params: jaxseq.RnnParams, xs: jax.Array) -> jax.Array:
    return diagnostics.lyapunov_exponents(diagnostics.jacobians(CELL, params, xs))[0]


@jax.jit
def solve(params: jaxseq.RnnParams, xs: jax.Array) -> tuple[diagnostics.NewtonReport, jax.Array]:
    """Returns the report, and the largest difference to the loop."""
    report, both = diagnostics.newton_report(CELL, params, xs, rounds=MOST), (kernels.newton(rounds=MOST), kernels.scan)
    ys, want = (jaxseq.unroll(CELL, params, xs, kernel=kernel)[1] for kernel in both)
    return report, jnp.max(jnp.abs(ys - want))


def sweep(gains: Sequence[float], lengths: Sequence[int], seeds: int) -> list[Run]:
    """Returns a run for each gain, seed and length, in float64."""
    runs = []
    for gain in tqdm(gains, disable=None):
        for seed in range(seeds):
            params, xs = draw(seed, gain, max(lengths))
            exponent = float(exponent_of(params, xs[: lengths[len(lengths) // 2]]))
            for T in lengths:
                (rounds, _, fell_back, settled), off = jax.device_get(solve(params, xs[:T]))
                runs.append(Run(gain, exponent, T, int(rounds), bool(fell_back), int(settled), float(off)))
    return runs


def seconds(T: int, gain: float = 0.8, repeats: int = 5) -> dict[str, float]:
    """Returns the least seconds of a gradient by each kernel, which take turns, in float32."""
    params, xs = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), draw(0, gain, T))
    ways = {"newton": kernels.newton(), "scan": kernels.scan, "bptt": kernels.bptt, "native": None}

    def gradient(kernel, params, xs):
        return jax.grad(lambda params: jnp.mean(jaxseq.unroll(CELL, params, xs, kernel=kernel)[1] ** 2))(params)

    run, best = jax.jit(gradient, static_argnums=0), dict.fromkeys(ways, np.inf)
    want = run(kernels.scan, params, xs).w_h
    for kernel in ways.values():  # compiled, and checked before it is timed
        np.testing.assert_allclose(run(kernel, params, xs).w_h, want, rtol=1e-3, atol=1e-5)
    for _ in range(repeats):
        for name, kernel in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run(kernel, params, xs))
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "newton_rounds")
    parser.add_argument("--seeds", type=positive, default=3, help="nets of each gain")
    args = parser.parse_args(argv)
    out, start = out_folder(args, "newton_rounds"), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    lengths = (50, 100) if args.smoke else LENGTHS
    with jax.enable_x64(True):
        runs = sweep(GAINS[::5] if args.smoke else GAINS, lengths, args.seeds)
    print(table(runs), f"largest difference to scan: {max(run.off for run in runs):.1e}", sep="\n")
    print(f"\n{'gradient, ms, gain 0.8':24}{'newton':>10}{'scan':>10}{'bptt':>10}{'native':>10}")
    for T in lengths:
        print(f"{f'T = {T:,}':24}" + "".join(f"{1000 * value:10.1f}" for value in seconds(T).values()))
    plot(runs, out / "rounds.png")
    print(f"{time.perf_counter() - start:.0f} s; wrote {out / 'rounds.png'}")


if __name__ == "__main__":
    main()
