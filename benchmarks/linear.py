"""How fast is each linear cell by each kernel, in training and in inference?

    python -m benchmarks.linear [--cells lru mamba2 …] [--sizes 1024,8,128 …] [--kernels scan bptt …] [--rounds 5]
                                [--out FOLDER]

A training step is the loss mean(ys²) with its gradients by params and xs; inference gives ys. D = H; heads are of 64
features, or fewer where H is less, K = V. Milliseconds, min and median over rounds in which the kernels take turns, and
how many times as long the kernel takes that has the plain loop with the hand adjoint, `bptt`, as its twin. "None" is
what a user gets who names no kernel. All must agree first: what does not prints no time. Where they are installed, the
LRU of memax takes part, and there all have a skip of one weight a feature; and PyTorch's own gradients of `min_gru` and
`gated_delta_net` in loops, and of `mamba2` in chunks. With `--out` it writes FOLDER/results.json, as the suite does.
"""

import argparse
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure, results, suite
from jaxseq import kernels

KERNELS = {
    "None": None,
    "bptt": kernels.bptt,
    "scan": kernels.scan,
    "native": kernels.native,
    "associative": kernels.associative,
    "chunkwise": kernels.chunkwise(64),
}
TOLERANCE = 2e-3  # of the largest entry, over thousands of steps in float32; more on accelerators, as in the suite


def cells(size: int) -> dict[str, jaxseq.Cell]:
    """The cells of H = `size` features by name."""
    width = min(64, size)
    heads = size // width
    return {
        "lru": jaxseq.lru(size),
        "s5": jaxseq.s5(size),
        "min_gru": jaxseq.min_gru(size),
        "min_lstm": jaxseq.min_lstm(size),
        "rg_lru": jaxseq.rg_lru(size, heads=heads),
        "mamba": jaxseq.mamba(size),
        "mamba2": jaxseq.mamba2(size, heads=heads, state=width),
        "gla": jaxseq.gla(size, heads=heads, key_size=width),
        "gated_delta_net": jaxseq.gated_delta_net(size, heads=heads, key_size=width),
        "mlstm": jaxseq.mlstm(size, heads=heads),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.linear", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=list(cells(1)), default=list(cells(1)), metavar="CELL")
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS), metavar="KERNEL")
    parser.add_argument(
        "--sizes", nargs="+", type=measure.size_parser("T,B,H"), default=[(1024, 8, 128)], metavar="T,B,H"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    args = parser.parse_args(argv)
    header = results.describe()
    records = results.load(args.out, header) if args.out else []
    print(measure.describe_machine())
    print(HEAD)
    for size in args.sizes:
        for name in args.cells:
            for mode in MODES:
                new, refused, wrong = run_case(name, mode, size, args.kernels, args.rounds)
                print("\n".join([*map(line, new), *refused, *wrong]), flush=True)
                records = results.merge(records, new)
                if args.out:
                    results.save(args.out, header, records)


HEAD = (
    f"{'cell':16}{'mode':11}{'T,B,H':>14}  {'kernel':12}"
    f"{'trace s':>9}{'compile s':>10}{'min ms':>10}{'median':>10}{'÷ bptt':>8}"
)


def line(record):
    """Returns the line of a record."""
    ratio = f"{'–':>8}" if record["ratio"] is None else f"{record['ratio']:8.2f}"
    made = f"{record['trace_s']:9.2f}{record['compile_s']:10.2f}"
    return f"{_start(record)}{made}{1e3 * record['min_s']:10.2f}{1e3 * record['median_s']:10.2f}{ratio}"


def _start(record):
    size = f"{record['T']},{record['B']},{record['H']}"
    return f"{record['cell']:16}{record['mode']:11}{size:>14}  {record['contender']:12}"


def run_case(name, mode, size, kernels, rounds):
    """Returns the records of a case, and lines with the reason: for each kernel that refuses it, and that is wrong."""
    T, B, H = size
    cell = cells(H)[name]
    case = {"cell": name, "mode": mode, "dtype": "float32", "B": B, "T": T, "D": H, "H": H}
    xs = jax.random.normal(jax.random.key(1), (T, B, H))
    params = cell.init(jax.random.key(0), H)
    calls, refused = {}, {}
    for label, (arrays, run) in _contenders(name, cell, params, kernels).items():
        try:
            calls[label] = measure.compile_call(functools.partial(MODES[mode], run), arrays, xs)
        except ValueError as reason:  # such as no native loop of complex numbers
            refused[label] = str(reason)
    calls |= _by_torch(name, mode, params, xs)
    ys = {label: _outputs(mode, call.call()) for label, call in calls.items()}
    twin = "bptt" if "bptt" in ys else next(iter(ys))
    wrong, errors, tolerance = {}, {}, max(TOLERANCE, suite.tolerance("float32"))
    for label in ys:
        try:
            right, other = ys[twin], ys[label]
            n = min(len(right), len(other))
            errors[label] = measure.check_agreement({twin: right[:n], label: other[:n]}, tolerance)
        except AssertionError as error:
            wrong[label] = str(error)
    times = measure.take_turns({label: call.call for label, call in calls.items() if label not in wrong}, rounds)
    records = [
        {
            **case,
            "contender": label,
            "rounds": rounds,
            "error": errors[label],
            "trace_s": calls[label].trace,
            "compile_s": calls[label].compile,
            "min_s": minimum,
            "median_s": median,
            "peak_bytes": calls[label].peak_bytes or None,  # of PyTorch it is not known
            "ratio": median / times["bptt"].median if "bptt" in times else None,
        }
        for label, (minimum, median) in times.items()
    ]
    refused, wrong = (
        [f"{_start(case | {'contender': label})}  {reason}" for label, reason in reasons.items()]
        for reasons in (refused, wrong)
    )
    return records, refused, wrong


def _contenders(name, cell, params, chosen):
    """By label the arrays and the function `(arrays, xs) -> ys` of each kernel, and of the peer."""
    found = {}
    has_peer = name == "lru" and importlib.util.find_spec("memax") is not None
    if has_peer:
        from benchmarks.contenders import memax_lru

        params = memax_lru.shared_params(params)
        found["memax"] = memax_lru.lru(params)
    for label in chosen:
        found[label] = params, functools.partial(_by_kernel, cell, KERNELS[label])
    return {label: found[label] for label in [*chosen, *(["memax"] if has_peer else [])]}


def _by_torch(name, mode, params, xs):
    """The call of PyTorch, which compiles nothing, where it has a form of the cell."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from benchmarks.contenders import torch_linear

    if name not in torch_linear.FORMS:
        return {}
    call = torch_linear.call(name, params, xs, mode == "training")
    return {"torch": measure.Compiled(call, 0.0, 0.0, 0, 0, call)}


def _by_kernel(cell, kernel, params, xs):
    return jaxseq.unroll(cell, params, xs, kernel=kernel)[1]


def _training(run, arrays, xs):
    def loss(arrays, xs):
        return jnp.mean(run(arrays, xs) ** 2)

    return jax.value_and_grad(loss, (0, 1))(arrays, xs)


def _inference(run, arrays, xs):
    return run(arrays, xs)


MODES = {"training": _training, "inference": _inference}


def _outputs(mode, results):
    """What all must agree on, ys, or the loss and all gradients; a peer's params have another layout."""
    if mode == "inference":
        return (results,)
    loss, (d_params, d_xs) = results
    return (loss, d_xs, d_params) if hasattr(d_params, "_fields") else (loss, d_xs)


if __name__ == "__main__":
    main()
