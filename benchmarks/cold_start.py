"""How long does a new process take to its first answer, by each way of serving?

    python -m benchmarks.cold_start [--sizes 8,64,64,256] [--layers 2] [--rounds 5]

A classifier of LSTMs. Seconds that a process takes, with logits at its end, over rounds in which ways take turns; and
for how many of them processors worked. `jax` imports JAX and finds its devices, which all others do too; `load_model`
makes the model by `train.load_model`; `program` reads what `export.unroll` made, with JAX alone; `program, cache` does
so with JAX's cache of compiled programs; `compiled` reads what `serialize_executable` wrote. All logits are compared.
"""

import argparse
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.experimental import serialize_executable

import jaxseq
from benchmarks import measure
from jaxseq import export, nn, train

READ = "jax.export.deserialize(pathlib.Path('program').read_bytes())"
ENDS = {
    "jax": "",
    "load_model": """
        from flax import nnx
        from jaxseq import train
        graph, params = nnx.split(train.load_model('model').model)
        call = jax.jit(lambda params, xs: nnx.merge(graph, params)(xs))
        np.save(sys.argv[1], call(params, np.load('xs.npy')))
    """,
    "program": f"np.save(sys.argv[1], jax.jit({READ}.call)(np.load('xs.npy')))",
    "program, cache": f"""
        jax.config.update('jax_compilation_cache_dir', 'cache')
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
        np.save(sys.argv[1], jax.jit({READ}.call)(np.load('xs.npy')))
    """,
    "compiled": """
        import pickle
        from jax.experimental.serialize_executable import deserialize_and_load
        devices = jax.devices()[:1]
        call = deserialize_and_load(*pickle.loads(pathlib.Path('compiled').read_bytes()), execution_devices=devices)
        np.save(sys.argv[1], call(np.load('xs.npy')))
    """,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=measure.size_parser("B,T,D,H"), default=(8, 64, 64, 256))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(measure.describe_machine())
    print(f"B,T,D,H = {args.sizes}, {args.layers} layers, {args.rounds} rounds; seconds to the first answer\n")
    with tempfile.TemporaryDirectory() as folder:
        want = write(Path(folder), args.sizes, args.layers)
        seconds = {way: [] for way in ENDS}
        for number in range(args.rounds + 1):
            for way, end in ENDS.items():
                taken = run(folder, end)
                if number:  # the first round fills caches, also those of the disk
                    seconds[way].append(taken)
                if end:
                    np.testing.assert_allclose(np.load(Path(folder) / "logits.npy"), want, rtol=1e-4, atol=1e-5)
    print(f"{'':20}{'seconds':>18}{'of processors':>18}")
    print(f"{'way':20}{'min':>9}{'median':>9}{'min':>9}{'median':>9}")
    for way, found in seconds.items():
        columns = [
            f"{reduce(column):9.2f}" for column in zip(*found, strict=True) for reduce in (min, statistics.median)
        ]
        print(f"{way:20}{''.join(columns)}")


def write(folder: Path, sizes: tuple[int, ...], layers: int) -> np.ndarray:
    """Writes what the ways read; returns the logits."""
    B, T, D, H = sizes
    net = jaxseq.stack(*[jaxseq.lstm(H) for _ in range(layers)])
    model = nn.SequenceClassifier(net, D, 10, rngs=nnx.Rngs(0))
    xs = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
    program = export.unroll(model, xs)
    np.save(folder / "xs.npy", xs)
    train.save_model(folder / "model", model)
    export.save(folder / "program", program)
    compiled = jax.jit(program.call).lower(jax.ShapeDtypeStruct(xs.shape, xs.dtype)).compile()
    (folder / "compiled").write_bytes(pickle.dumps(serialize_executable.serialize(compiled)))
    return np.asarray(model(jax.numpy.asarray(xs)))


def run(folder: str, end: str) -> tuple[float, float]:
    """Returns the seconds that a new process takes, and those that it takes of processors."""
    lines = ["import pathlib, sys", "import jax, numpy as np", "jax.devices()", *map(str.strip, end.splitlines())]
    source = {**os.environ, "PYTHONPATH": str(Path(jaxseq.__file__).parents[1])}
    start, used = time.perf_counter(), processors()
    subprocess.run([sys.executable, "-c", "\n".join(lines), "logits.npy"], cwd=folder, env=source, check=True)
    return time.perf_counter() - start, processors() - used


def processors() -> float:
    """Returns the seconds of processors that processes which have ended took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
