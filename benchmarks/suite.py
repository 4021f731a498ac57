"""What the suite measures: cases, sizes and contenders, the arithmetic of a case, and what is right in it.

A contender is a function `(case, params, xs) -> Call | None`, in `benchmarks/contenders/`, one file a peer. It is given
jaxseq's params and xs `[T, B, D]`, converts them outside the timed call into its own params and layout, and returns its
call; None where it has no such cell, mode or dtype. What a call returns is converted back and held against `expected`.
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from benchmarks import measure

CELLS = {"rnn": jaxseq.rnn, "lstm": jaxseq.lstm, "gru": jaxseq.gru}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
MODES = ("inference", "training", "streaming")
DTYPES = ("float32", "bfloat16")
parse_size = measure.size_parser("B,T,D,H")
SIZES = [  # B, T, D, H
    (32, 100, 64, 128),
    (32, 128, 256, 256),
    (64, 64, 512, 512),
    (16, 784, 1, 128),
    (1, 1000, 8, 32),
    (8, 200, 16, 32),
    (256, 20, 16, 64),
    (128, 512, 64, 64),
    (4, 16384, 16, 64),
]
CONTENDERS = {  # module:function in benchmarks.contenders
    "jaxseq": "jaxseq_kernels:default",
    "jaxseq_scan": "jaxseq_kernels:scan",
    "jaxseq_bptt": "jaxseq_kernels:bptt",
    "jaxseq_native": "jaxseq_kernels:native",
    "jaxseq_remat": "jaxseq_kernels:remat",
    "jaxseq_cudnn": "cudnn_lstm:by_jaxseq",
    "jaxseq_masked": "jaxseq_kernels:masked",
    "jaxseq_vmapped": "jaxseq_kernels:vmapped",
    "flax_nnx": "flax_nnx:contend",
    "flax_linen": "flax_linen:contend",
    "haiku": "haiku_cores:contend",
    "equinox": "equinox_cells:contend",
    "keras": "keras_layers:contend",
    "cudnn": "cudnn_lstm:contend",
    "torch": "torch_layers:contend",
    "onnx": "onnx_nodes:contend",
}
JAX_PEERS = ("flax_nnx", "flax_linen", "haiku", "equinox", "keras", "cudnn")
PEERS = (*JAX_PEERS, "torch", "onnx")
STREAMED = 100  # steps of one timed call of a stream, at most
CHECKED = 32  # steps over which a contender's gradients are checked in float32 where it is timed in bfloat16


class Case(NamedTuple):
    """One thing to time: a cell, a mode, a dtype and a size."""

    cell: str
    mode: str
    dtype: str
    B: int
    T: int
    D: int
    H: int


class Twin(NamedTuple):
    """The jaxseq net that a contender equals: the case's own, or that of the contender's convention."""

    cell: jaxseq.Cell
    params: Any
    mask: jax.Array | None = None


class Call(NamedTuple):
    """A contender's call in a case."""

    run: Callable[[], object]
    result: Callable[[Any], dict[str, Any]]  # of what `run` returned: "ys", or "loss" and gradients, as in `expected`
    twin: Twin
    trace: float | None = None  # seconds
    compile: float | None = None
    peak_bytes: int | None = None
    steps: int = 1  # its time is divided by them


Contender = Callable[[Case, Any, jax.Array], Call | None]


def load(name: str) -> Contender:
    """Returns a contender; raises ImportError where its package is missing or cannot run on this machine."""
    module, function = CONTENDERS[name].split(":")
    return getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)


def problem(case: Case) -> tuple[Any, jax.Array]:
    """Draws params, uniform within ±1/√H, and normal inputs `[T, B, D]`."""
    rng, bound = np.random.default_rng(0), case.H**-0.5
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(-bound, bound, leaf.shape), case.dtype),
        jax.eval_shape(lambda key: CELLS[case.cell](case.H).init(key, case.D), jax.random.key(0)),
    )
    return params, jnp.asarray(rng.normal(size=(case.T, case.B, case.D)), case.dtype)


def twin(case: Case, params: Any) -> Twin:
    """Returns the case's own net."""
    return Twin(CELLS[case.cell](case.H), params)


def expected(case: Case, twin: Twin, xs: jax.Array) -> dict[str, jax.Array]:
    """Returns what is right: "ys", or in training "loss" and the gradients by name, by the kernel `scan` in float32."""
    params, xs = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (twin.params, xs))
    if case.mode == "streaming":
        xs = xs[:STREAMED]
    if case.mode != "training":
        return {"ys": _outputs(twin.cell, params, xs, twin.mask)}
    loss, gradients = _training_step(twin.cell, params, xs, twin.mask)
    return {"loss": loss} | by_name(gradients)


def check(case: Case, name: str, contender: Contender, call: Call, params: Any, xs: jax.Array) -> float:
    """Returns the largest error of a contender's result, a part of a leaf's largest entry; raises where it is wrong.

    Gradients added up in bfloat16, over the batch or step by step as JAX's derivative of a scan does, lose digits: over
    1000 steps they may be off by 40 %. So there the loss is held to the tolerance, the gradients' error returned, and
    the contender's gradients in float32, over the first steps, held to the tolerance of float32.
    """
    label, bound = f"{name} in {case}: ", tolerance(case.dtype)
    got = call.result(call.run())
    want = expected(case, call.twin, xs)
    want = {leaf: want[leaf] for leaf in got}
    if case.dtype == "float32" or case.mode != "training":
        return measure.check_agreement({"jaxseq_scan": want, label: got}, bound)
    measure.check_agreement({"jaxseq_scan": want["loss"], f"{label}['loss']": got["loss"]}, bound)
    exact = case._replace(dtype="float32", T=min(case.T, CHECKED))
    exact_params, exact_xs = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, xs[:CHECKED]))
    exact_call = contender(exact, exact_params, exact_xs)
    if exact_call is not None:
        check(exact, name, contender, exact_call, exact_params, exact_xs)
    return measure.check_agreement({"jaxseq_scan": want, label: got}, math.inf)


def by_name(gradients: Any) -> dict[str, Any]:
    """Returns the leaves of jaxseq params by name, without what is None."""
    return {name: leaf for name, leaf in gradients._asdict().items() if leaf is not None}


def tolerance(dtype: str) -> float:
    """Returns the error allowed of a result's largest entry; accelerators round the factors of float32 products."""
    if dtype == "float32":
        return {"cpu": 1e-4, "gpu": 1e-2}.get(jax.default_backend(), 5e-2)
    return 5e-2


def flops(case: Case) -> int:
    """Returns the operations of the case's matrix products; of one step, in a stream.

    Forward, every step multiplies `[B, D] × [D, G]` and `[B, H] × [H, G]`; a training step has both again for the
    gradients of the weights, and `[B, G] × [G, H]` for that of the carry; the inputs want no gradient.
    """
    B, T, D, H = case[3:]
    G = GATES[case.cell] * H
    inner = {"inference": T * (D + H), "training": T * (2 * D + 3 * H), "streaming": D + H}[case.mode]
    return 2 * B * inner * G


@functools.partial(jax.jit, static_argnums=0)
def _outputs(cell, params, xs, mask):
    return jaxseq.unroll(cell, params, xs, mask=mask, kernel=jaxseq.kernels.scan)[1]


@functools.partial(jax.jit, static_argnums=0)
def _training_step(cell, params, xs, mask):
    return jax.value_and_grad(lambda params: jnp.mean(_outputs(cell, params, xs, mask) ** 2))(params)
