"""Is attention on this machine faster by jax.nn, or by the products that `nn.Transformer` takes on a CPU?

    python -m benchmarks.attention [--sizes 32,36,2,64 32,128,4,32 16,784,4,16] [--rounds 20]

Sizes are B rows, T steps, N heads of F features each. "pass" and "gradient" are causal attention of T steps to T;
"step" is one query a row to a cache of T steps, into which its key and value are written first, 32 in one loop. Both
ways have the heads outside, and their results agree before anything is timed. A layer takes the products on a CPU, but
for single queries.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from jaxseq.nn.attention import _dot_product

WAYS = {"jax.nn": _dot_product._of_jax, "products": _dot_product._products}
STEPS = 32


def by_pass(attend: Callable, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    return attend(queries, keys, values, jnp.tri(queries.shape[-2], dtype=bool))


def by_gradient(attend: Callable, *given: jax.Array) -> tuple[jax.Array, ...]:
    return jax.grad(lambda given: jnp.sum(jnp.sin(by_pass(attend, *given))))(given)


def by_steps(attend: Callable, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """The outputs of steps, each of which sees the first places of the cache, its own the last of them."""
    room = keys.shape[-2]

    def advance(caches, t):
        query = jax.lax.dynamic_index_in_dim(queries, t, axis=-2)
        caches = jax.tree.map(lambda cache: jax.lax.dynamic_update_index_in_dim(cache, query, t, axis=-2), caches)
        return caches, attend(query, *caches, jnp.arange(room)[None] <= t)

    return jax.lax.scan(advance, (keys, values), jnp.arange(min(STEPS, room)))[1]


TASKS = {"pass": by_pass, "gradient": by_gradient, "step": by_steps}


def compare(task: str, sizes: tuple[int, ...], rounds: int) -> dict[str, measure.Times]:
    """Returns the seconds of a call of each way, after their results were found to be the same."""
    B, T, N, F = sizes
    given = jnp.asarray(np.random.default_rng(0).normal(size=(3, B, N, T, F)), jnp.float32)
    calls = {
        name: measure.compile_call(lambda given, attend=attend: TASKS[task](attend, *given), given).call
        for name, attend in WAYS.items()
    }
    measure.check_agreement({name: call() for name, call in calls.items()}, tolerance=1e-4)
    return measure.take_turns(calls, rounds)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = [(32, 36, 2, 64), (32, 128, 4, 32), (16, 784, 4, 16), (1, 256, 8, 64), (32, 256, 8, 64)]
    parser.add_argument("--sizes", type=measure.size_parser("B,T,N,F"), nargs="+", default=defaults, metavar="B,T,N,F")
    parser.add_argument("--rounds", type=int, default=20, help="default %(default)s")
    args = parser.parse_args(argv)
    print(measure.describe_machine())
    print(f"float32, {args.rounds} rounds; milliseconds a call, median (fastest)\n")
    print(f"{'B, T, N, F':18}{'task':10}" + "".join(f"{name:>18}" for name in WAYS) + f"{'jax.nn over products':>22}")
    for sizes in args.sizes:
        for task in TASKS:
            times = compare(task, sizes, args.rounds)
            columns = "".join(f"{1e3 * time.median:9.2f} ({1e3 * time.minimum:6.2f})" for time in times.values())
            ratio = times["jax.nn"].median / times["products"].median
            print(f"{', '.join(map(str, sizes)):18}{task:10}{columns}{ratio:22.2f}", flush=True)


if __name__ == "__main__":
    main()
