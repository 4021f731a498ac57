"""PyTorch: `nn.RNN`, `nn.LSTM` and `nn.GRU`, time-major, on all cores; with cuDNN where JAX runs on an NVIDIA GPU.

Inference runs under `torch.inference_mode`, a training step forward and backward into fresh gradients; a stream calls
`nn.RNNCell`, `nn.LSTMCell` and `nn.GRUCell`. Weights are `[G, D]` and `[G, H]`, gates in our order, and biases two: `b`
is the first, `b_hn` the candidate's part of the second.
"""

import functools
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks import measure, suite
from benchmarks.suite import STREAMED, Call, Case, by_name

LAYERS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
CELLS = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
DEVICE = {"cpu": "cpu", "gpu": "cuda"}.get(jax.default_backend())

if DEVICE is None or (DEVICE == "cuda" and not torch.cuda.is_available()):
    raise ImportError(f"this PyTorch does not run on a {jax.default_backend().upper()}")
torch.set_num_threads(measure.cores())


def contend(case: Case, params, xs) -> Call | None:
    """In every cell, mode and dtype."""
    kind = CELLS if case.mode == "streaming" else LAYERS
    layer = kind[case.cell](case.D, case.H, device=DEVICE, dtype=getattr(torch, case.dtype))
    weights = list(layer.parameters())  # W_x, W_h, and the biases beside them
    b_h = np.zeros_like(params.b)
    if case.cell == "gru":
        b_h[2 * case.H :] = params.b_hn
    with torch.no_grad():
        for weight, value in zip(weights, (params.w_x.T, params.w_h.T, params.b, b_h), strict=True):
            weight.copy_(_tensor(value, case))
    xs = _tensor(xs, case)

    def training_step():
        layer.zero_grad(set_to_none=True)
        loss = layer(xs)[0].square().mean()
        loss.backward()
        return loss

    def result(output):
        if case.mode != "training":
            return {"ys": _array(torch.stack(output) if case.mode == "streaming" else output)}
        d_x, d_h, d_b, d_b_h = (_array(weight.grad) for weight in weights)
        extra = {"b_hn": d_b_h[2 * case.H :]} if case.cell == "gru" else {}
        return {"loss": _array(output)} | by_name(type(params)(d_x.T, d_h.T, d_b, **extra))

    calls = {
        "inference": functools.partial(_inference, layer, xs),
        "training": training_step,
        "streaming": functools.partial(_stream, layer, list(xs[:STREAMED])),
    }
    run = _synchronised(calls[case.mode])
    steps = min(case.T, STREAMED) if case.mode == "streaming" else 1
    peak = None if case.mode == "streaming" else _peak_bytes(run) + sum(leaf.nbytes for leaf in [xs, *weights])
    return Call(run, result, suite.twin(case, params), peak_bytes=peak, steps=steps)


@torch.inference_mode()
def _inference(layer, xs):
    return layer(xs)[0]


@torch.inference_mode()
def _stream(cell, xs):
    carry, ys = None, []
    for x in xs:
        carry = cell(x, carry)
        ys.append(carry[0] if isinstance(carry, tuple) else carry)
        _wait()
    return ys


def _synchronised(call):
    def run():
        output = call()
        _wait()
        return output

    return run


def _wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(run) -> int:
    """What a call allocates at its peak, beside weights and inputs."""
    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    kineto: Any = profile.profiler
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


def _tensor(array, case):
    return torch.from_numpy(np.array(array, np.float32)).to(DEVICE, getattr(torch, case.dtype))


def _array(tensor):
    return tensor.detach().float().cpu().numpy()
