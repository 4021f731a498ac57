"""The oracle for nets: layers, directions and residual connections as loops over tests/reference.py's forms.

A net is a pair of functions on whole sequences; params and carries are nested tuples and dicts as the library's are:

    run(p, xs, carry, flags) -> (carry, ys)
    back(p, xs, carry, d_carry, d_ys, flags) -> (d_p, d_carry, d_xs)
    start(p, B) -> the carry that a reset puts in place

`flags` are `mask`, `reset` and `reverse`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests import reference


class Net(NamedTuple):
    run: Callable
    back: Callable
    start: Callable


def cell(form, parts):
    """One cell; `parts` of its carry: sizes of vectors of zeros, or the arrays of one row that it starts from."""
    row = [np.zeros(part) if isinstance(part, int) else part for part in parts]

    def start(p, B):
        return tuple(np.tile(part, (B, *[1] * part.ndim)) for part in row)

    def run(p, xs, carry, flags):
        return tuple(reference.unroll(form, p, xs, carry, initial=start(p, xs.shape[1]), **flags))

    def back(p, xs, carry, d_carry, d_ys, flags):
        start_carry = start(p, xs.shape[1])
        gradients = reference.bptt(form, p, xs, carry, d_carry, d_ys, initial=start_carry, **flags)
        return gradients.params, gradients.carry, gradients.xs

    return Net(run, back, start)


def stack(*nets):
    """Each net reads the outputs of the one before."""

    def start(p, B):
        return tuple(net.start(layer, B) for net, layer in zip(nets, p, strict=True))

    def run(p, xs, carry, flags):
        last = []
        for net, layer, begin in zip(nets, p, carry, strict=True):
            end, xs = net.run(layer, xs, begin, flags)
            last.append(end)
        return tuple(last), xs

    def back(p, xs, carry, d_carry, d_ys, flags):
        inputs = [xs]
        for net, layer, begin in zip(nets, p, carry, strict=True):
            inputs.append(net.run(layer, inputs[-1], begin, flags)[1])
        d_p, d_first = [], []
        for place in reversed(range(len(nets))):
            d_layer, d_begin, d_ys = nets[place].back(
                p[place], inputs[place], carry[place], d_carry[place], d_ys, flags
            )
            d_p.insert(0, d_layer)
            d_first.insert(0, d_begin)
        return tuple(d_p), tuple(d_first), d_ys

    return Net(run, back, start)


def backwards(net):
    """Read from the end."""

    def other(flags):
        return {**flags, "reverse": not flags["reverse"]}

    return net._replace(
        run=lambda p, xs, carry, flags: net.run(p, xs, carry, other(flags)),
        back=lambda p, xs, carry, d_carry, d_ys, flags: net.back(p, xs, carry, d_carry, d_ys, other(flags)),
    )


def bidirectional(forward, backward, merge="concat"):
    """Both directions, beside one another, added, averaged or multiplied."""

    def start(p, B):
        return forward.start(p[0], B), backward.start(p[1], B)

    def other(flags):
        return {**flags, "reverse": not flags["reverse"]}

    def run(p, xs, carry, flags):
        ahead, ys = forward.run(p[0], xs, carry[0], flags)
        behind, zs = backward.run(p[1], xs, carry[1], other(flags))
        if merge == "concat":
            return (ahead, behind), np.concatenate([ys, zs], axis=-1)
        return (ahead, behind), {"sum": ys + zs, "mean": (ys + zs) / 2, "mul": ys * zs}[merge]

    def back(p, xs, carry, d_carry, d_ys, flags):
        ys = forward.run(p[0], xs, carry[0], flags)[1]
        zs = backward.run(p[1], xs, carry[1], other(flags))[1]
        size = ys.shape[-1]
        if merge == "concat":
            d_forward, d_backward = d_ys[..., :size], d_ys[..., size:]
        else:
            d_forward, d_backward = {"sum": (d_ys, d_ys), "mean": (d_ys / 2, d_ys / 2), "mul": (d_ys * zs, d_ys * ys)}[
                merge
            ]
        d_p0, d_carry0, d_xs0 = forward.back(p[0], xs, carry[0], d_carry[0], d_forward, flags)
        d_p1, d_carry1, d_xs1 = backward.back(p[1], xs, carry[1], d_carry[1], d_backward, other(flags))
        return (d_p0, d_p1), (d_carry0, d_carry1), d_xs0 + d_xs1

    return Net(run, back, start)


def residual(net):
    """y = x + net(x) on real steps, zero on padding."""

    def real(xs, flags):
        return xs if flags["mask"] is None else np.where(flags["mask"][..., None], xs, 0)

    def run(p, xs, carry, flags):
        carry, ys = net.run(p, xs, carry, flags)
        return carry, ys + real(xs, flags)

    def back(p, xs, carry, d_carry, d_ys, flags):
        d_p, d_carry, d_xs = net.back(p, xs, carry, d_carry, d_ys, flags)
        return d_p, d_carry, d_xs + real(d_ys, flags)

    return Net(run, back, net.start)


def learned_carry(form, own):
    """One cell with a start of its own: p is (params, start), without a batch axis, complex numbers as two real ones.

    `own` is the net of the cell alone.
    """

    def start(p, B):
        pairs = zip(p[1], own.start(None, 1), strict=True)
        rows = [leaf[..., 0] + 1j * leaf[..., 1] if np.iscomplexobj(like) else leaf for leaf, like in pairs]
        return tuple(np.tile(row, (B, *[1] * row.ndim)) for row in rows)

    def of_param(d):
        return np.stack([d.real, -d.imag], axis=-1) if np.iscomplexobj(d) else d

    def run(p, xs, carry, flags):
        return tuple(reference.unroll(form, p[0], xs, carry, initial=start(p, xs.shape[1]), **flags))

    def back(p, xs, carry, d_carry, d_ys, flags):
        gradients = reference.bptt(form, p[0], xs, carry, d_carry, d_ys, initial=start(p, xs.shape[1]), **flags)
        d_start = tuple(of_param(leaf.sum(0)) for leaf in gradients.initial)
        return (gradients.params, d_start), gradients.carry, gradients.xs

    return Net(run, back, start)
