"""The backward of a step that is written out in plain NumPy, by complex steps: exact to rounding, with no tape.

An analytic f has f(z + iε) = f(z) + iε f'(z) - …, so Im f(z + iε) / ε is its derivative, with ε = 1e-30 to the last
digit: nothing is subtracted (Squire & Trapp 1998). A step may use sums, products, powers, exponentials and logarithms,
and, in place of what is not analytic, `larger` and `magnitude`. A complex state is written out as two real ones.

A plain step works on arrays with any number of leading axes, `dot` among them, so that all entries of params, carry and
x are displaced at once, each in a copy of its own.
"""

import numpy as np

from tests.reference import Form, sigma

EPSILON = 1e-30


def dot(x, w):
    """x w, with any leading axes: `[..., in]`, `[..., in, out]` -> `[..., out]`."""
    return np.einsum("...i,...io->...o", x, w)


def larger(a, b):
    """The larger one by its real part."""
    return np.where(a.real > b.real, a, b)


def magnitude(a):
    """|a| of what stands for a real number."""
    return np.where(a.real < 0, -a, a)


def log1p(a):
    """log(1 + a), exact for small a, of a displaced a too, which NumPy's is not."""
    return np.log1p(a.real) + (1j * a.imag / (1 + a.real) if np.iscomplexobj(a) else 0)


def softplus(a):
    return log1p(np.exp(a))


def log_sigma(a):
    return -log1p(np.exp(-a))


def by_head(a, heads):
    """`[..., heads · F]` -> `[..., heads, F]`."""
    return a.reshape(*a.shape[:-1], heads, -1)


def flat(a):
    """`[..., heads, F]` -> `[..., heads · F]`."""
    return a.reshape(*a.shape[:-2], -1)


def plain_form(plain_step, size, *, is_complex=False):
    """The form of `plain_step(p, carry, x) -> (carry, y)`, with `size` outputs.

    Of a complex state the plain step sees two real parts; what goes in and out, cotangents too, is one complex array.
    Its cotangent is that of JAX, δ with Re(δ · dh) the change of the loss.
    """

    def step(p, carry, x):
        new, y = plain_step(p, _in_parts(carry) if is_complex else carry, x)
        return (new[0] + 1j * new[1],) if is_complex else new, y, (x, carry)

    def back(p, cache, d_carry, d_y):
        x, carry = cache
        if is_complex:
            carry, d_carry = _in_parts(carry), _in_parts([d.conj() for d in d_carry])
        d_leaves = _slopes(plain_step, p, carry, x, (*d_carry, d_y))
        d_p = dict(zip(p, d_leaves, strict=False))
        *d_carry, d_x = d_leaves[len(p) :]
        return d_p, (d_carry[0] - 1j * d_carry[1],) if is_complex else tuple(d_carry), d_x

    return Form(step, back, size)


def _slopes(plain_step, p, carry, x, cotangents):
    """The cotangents of params, carry and x, in this order, from those of the new carry and y."""
    leaves = [*p.values(), *carry, x]
    at = np.concatenate([leaf.ravel() for leaf in leaves])
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    copies = np.split(at + 1j * EPSILON * np.eye(at.size), ends, axis=1)
    copies = [copy.reshape(at.size, *leaf.shape) for copy, leaf in zip(copies, leaves, strict=True)]
    new, y = plain_step(dict(zip(p, copies, strict=False)), tuple(copies[len(p) : -1]), copies[-1])
    changes = [after.reshape(at.size, -1).imag / EPSILON for after in (*new, y)]
    slopes = sum(change @ d.ravel() for change, d in zip(changes, cotangents, strict=True))
    return [d.reshape(leaf.shape) for d, leaf in zip(np.split(slopes, ends), leaves, strict=True)]


def _in_parts(carry):
    return tuple(part for leaf in carry for part in (leaf.real, leaf.imag))


__all__ = ["by_head", "dot", "flat", "larger", "log_sigma", "magnitude", "plain_form", "sigma", "softplus"]
