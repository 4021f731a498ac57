"""jaxseq itself: each kernel by name, what `kernel=None` takes, and that under a mask and under `jax.vmap`.

Time-major. A stream is `jaxseq.step`; kernels, masks and vmap over whole sequences take no part there.
"""

import math

import jax
import numpy as np

import jaxseq
from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call
from benchmarks.suite import Call, Case


def default(case: Case, params, xs) -> Call | None:
    """What a user gets who names no kernel."""
    twin = suite.twin(case, params)
    net = Net(
        params,
        lambda params, xs: jaxseq.unroll(twin.cell, params, xs)[1],
        restore,
        lambda params, carry, x: jaxseq.step(twin.cell, params, carry, x),
        twin.cell.carry(params, (case.B,)),
    )
    return make_call(case, net, xs, twin)


def scan(case: Case, params, xs) -> Call | None:
    return with_kernel(jaxseq.kernels.scan, case, params, xs)


def bptt(case: Case, params, xs) -> Call | None:
    return with_kernel(jaxseq.kernels.bptt, case, params, xs)


def native(case: Case, params, xs) -> Call | None:
    return with_kernel(jaxseq.kernels.native, case, params, xs)


def remat(case: Case, params, xs) -> Call | None:
    """Segments of √T steps."""
    return with_kernel(jaxseq.kernels.remat(math.isqrt(case.T)), case, params, xs)


def with_kernel(kernel, case, params, xs):
    twin = suite.twin(case, params)
    net = Net(params, lambda params, xs: jaxseq.unroll(twin.cell, params, xs, kernel=kernel)[1], restore)
    return make_call(case, net, xs, twin)


def masked(case: Case, params, xs) -> Call | None:
    """Sequences of random lengths from T/2 to T."""
    lengths = np.random.default_rng(1).integers(-(-case.T // 2), case.T + 1, case.B)
    twin = suite.twin(case, params)._replace(mask=jaxseq.lengths_to_mask(lengths, case.T))

    def unroll(params, inputs):
        xs, mask = inputs
        return jaxseq.unroll(twin.cell, params, xs, mask=mask)[1]

    return make_call(case, Net(params, unroll, restore), (xs, twin.mask), twin)


def vmapped(case: Case, params, xs) -> Call | None:
    """One sequence a row, `jax.vmap` over the rows."""
    twin = suite.twin(case, params)

    def unroll(params, xs):
        return jax.vmap(lambda xs: jaxseq.unroll(twin.cell, params, xs)[1], in_axes=1, out_axes=1)(xs)

    return make_call(case, Net(params, unroll, restore), xs, twin)


def restore(params):
    return params
