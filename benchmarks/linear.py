"""How fast is each linear cell by each kernel, in training and in inference?

    python -m benchmarks.linear [--cells lru mamba2 …] [--sizes 1024,8,128 …] [--kernels scan bptt …] [--rounds 5]

A training step is the loss mean(ys²) with its gradients by params and xs; inference gives ys. D = H; heads are of 64
features, or fewer where H is less, K = V. Milliseconds, min and median over rounds in which the kernels take turns, and
how many times as long the kernel takes that has the plain loop with the hand adjoint, `bptt`, as its twin. "None" is
what a user gets who names no kernel. All must agree first: what does not prints no time. Where they are installed, the
LRU of memax takes part, and there all have a skip of one weight a feature; and PyTorch's own gradients of `min_gru` and
`gated_delta_net` in loops, and of `mamba2` in chunks.
"""

import argparse
import functools
import importlib.util

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure
from jaxseq import kernels

KERNELS = {
    "None": None,
    "bptt": kernels.bptt,
    "scan": kernels.scan,
    "native": kernels.native,
    "associative": kernels.associative,
    "chunkwise": kernels.chunkwise(64),
}
TOLERANCE = 2e-3  # of the largest entry, over thousands of steps in float32


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
    args = parser.parse_args(argv)
    print(measure.describe_machine())
    head = f"{'cell':16}{'mode':11}{'T,B,H':>14}  {'kernel':12}"
    print(f"{head}{'trace s':>9}{'compile s':>10}{'min ms':>10}{'median':>10}{'÷ bptt':>8}")
    for size in args.sizes:
        for name in args.cells:
            for mode in ("training", "inference"):
                _print_case(name, mode, size, args)


def _print_case(name, mode, size, args):
    (T, B, H), case = size, f"{name:16}{mode:11}{','.join(map(str, size)):>14}"
    cell = cells(H)[name]
    xs = jax.random.normal(jax.random.key(1), (T, B, H))
    params = cell.init(jax.random.key(0), H)
    calls, refused = {}, {}
    for label, (arrays, run) in _contenders(name, cell, params, args.kernels).items():
        try:
            calls[label] = measure.compile_call(functools.partial(_MODES[mode], run), arrays, xs)
        except ValueError as reason:  # such as no native loop of complex numbers
            refused[label] = str(reason)
    calls |= _by_torch(name, mode, params, xs)
    ys = {label: _outputs(mode, call.call()) for label, call in calls.items()}
    wrong = {}
    for label in ys:
        try:
            first, other = next(iter(ys.values())), ys[label]
            n = min(len(first), len(other))
            measure.check_agreement({"first": first[:n], label: other[:n]}, TOLERANCE)
        except AssertionError as error:
            wrong[label] = str(error)
    right = {label: call.call for label, call in calls.items() if label not in wrong}
    times = measure.take_turns(right, args.rounds)
    for label, (minimum, median) in times.items():
        ratio = f"{median / times['bptt'].median:8.2f}" if "bptt" in times else f"{'–':>8}"
        made = f"{calls[label].trace:9.2f}{calls[label].compile:10.2f}"
        print(f"{case}  {label:12}{made}{1e3 * minimum:10.2f}{1e3 * median:10.2f}{ratio}", flush=True)
    for label, reason in (refused | wrong).items():
        print(f"{case}  {label:12}  {reason}", flush=True)


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


_MODES = {"training": _training, "inference": _inference}


def _outputs(mode, results):
    """What all must agree on, ys, or the loss and all gradients; a peer's params have another layout."""
    if mode == "inference":
        return (results,)
    loss, (d_params, d_xs) = results
    return (loss, d_xs, d_params) if hasattr(d_params, "_fields") else (loss, d_xs)


if __name__ == "__main__":
    main()
