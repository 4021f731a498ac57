"""cuDNN's LSTM through `jax.experimental.rnn`, on NVIDIA GPUs: float32, batch-major; and through `kernels.cudnn`.

Its weights are one vector: W_x [4H, D], W_h [4H, H] and two biases, gates i f g o.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

import jaxseq
from benchmarks import suite
from benchmarks.contenders import jaxseq_kernels
from benchmarks.contenders._jax import Net, make_call
from benchmarks.suite import Call, Case

if jax.default_backend() != "gpu":
    raise ImportError("cuDNN runs on NVIDIA GPUs")


def contend(case: Case, params, xs) -> Call | None:
    """LSTM in float32, inference and training."""
    if not _has(case):
        return None
    zeros = jnp.zeros((1, case.B, case.H))
    lengths = jnp.full(case.B, case.T, jnp.int32)

    def unroll(weights, xs):
        outputs: Any = rnn.lstm(xs, zeros, zeros, weights, lengths, case.D, case.H, 1, 0.0, False)
        return outputs[0]

    def restore(weights):
        w_x, w_h, b, _ = rnn.unpack_lstm_weights(weights, case.D, case.H, 1, False)
        return jaxseq.LstmParams(w_x[0].T, w_h[0].T, b[0])

    leaves = (params.w_x.T, params.w_h.T, params.b, jnp.zeros_like(params.b))
    weights = jnp.concatenate([leaf.ravel() for leaf in leaves])
    return make_call(case, Net(weights, unroll, restore, batch_major=True), xs, suite.twin(case, params))


def by_jaxseq(case: Case, params, xs) -> Call | None:
    """The same by the kernel, time-major."""
    return jaxseq_kernels.with_kernel(jaxseq.kernels.cudnn, case, params, xs) if _has(case) else None


def _has(case):
    return case.cell == "lstm" and case.dtype == "float32" and case.mode != "streaming"
