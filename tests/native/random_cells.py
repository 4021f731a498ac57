"""Cells drawn at random from what native loops are made of: products, reductions, moves and elementwise functions."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq

UNARY = [
    jnp.tanh,
    jax.nn.sigmoid,
    jax.nn.relu,
    jax.nn.softplus,
    jax.nn.gelu,
    jnp.sin,
    jnp.abs,
    jnp.square,
    lambda x: jnp.exp(-jnp.abs(x)),
    lambda x: jnp.log1p(x * x),
    lambda x: jnp.expm1(jnp.minimum(x, 1)),
    lambda x: jnp.sqrt(1 + x * x),
    lambda x: 1 / (1 + x * x),
    lambda x: x**3 / (1 + jnp.abs(x) ** 3),
    lambda x: jnp.clip(x, -0.7, 0.9),
    lambda x: x * jnp.sign(x),
    lambda x: jax.scipy.special.erf(x),
    lambda x: jnp.where(x > 0.2, x, 0.5 * x),
    lambda x: jax.lax.stop_gradient(x) + x,
]
BINARY = [
    jnp.add,
    jnp.subtract,
    jnp.multiply,
    jnp.maximum,
    jnp.minimum,
    lambda x, y: jnp.where(x < y, x, y * x),
    lambda x, y: x / (1 + jnp.abs(y)),
    lambda x, y: jnp.where(jnp.logical_and(x > 0, ~(y > 0.1)), y, x),
]
WHOLE = [  # of all features, to as many
    lambda x: jnp.flip(x, -1),
    lambda x: jnp.roll(x, 1, -1),
    lambda x: x - jnp.mean(x, -1, keepdims=True),
    lambda x: x * jnp.max(x, -1, keepdims=True),
    lambda x: x + jnp.min(x, -1, keepdims=True),
    lambda x: jax.nn.softmax(x, -1),
    lambda x: x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 0.1),
    lambda x: jnp.concatenate(jnp.split(x, [x.shape[-1] // 2], -1)[::-1], -1),
    lambda x: jnp.stack([x, 2 * x], -1).reshape(*x.shape[:-1], -1)[..., : x.shape[-1]],
    lambda x: jnp.swapaxes(jnp.stack([x, x * x, -x], -1), -1, -2).sum(-2),
    lambda x: jnp.pad(x[..., 1:], [(0, 0)] * (x.ndim - 1) + [(0, 1)]),
]


def random_cell(seed, size, has_flags=False):
    """Returns a cell without a backward, of a carry of several leaves; the draw is the same for the same seed."""
    draw = np.random.default_rng(seed)
    sizes = [size, *draw.integers(1, 2 * size + 1, size=draw.integers(0, 3)).tolist()]
    plan = [
        (draw.choice(["unary", "binary", "whole", "product", "heads", "slice"]), draw.integers(1 << 30, size=4))
        for _ in range(9)
    ]

    def init(key, in_size, dtype=None):
        weights = {"x": (in_size, size), "b": (size,)}
        weights |= {f"out{n}": (size, features) for n, features in enumerate(sizes)}
        weights |= {f"in{n}": (features, size) for n, features in enumerate(sizes)}
        weights |= {f"w{n}": (size, size) for n, (kind, _) in enumerate(plan) if kind == "product"}
        weights |= {f"w{n}": (3, size, 2) for n, (kind, _) in enumerate(plan) if kind == "heads"}
        keys = jax.random.split(key, len(weights))
        return {n: jax.random.normal(key, weights[n], dtype) / 2 for n, key in zip(weights, keys, strict=True)}

    def carry(params, batch_shape=()):
        leaves = [jnp.zeros((*batch_shape, features), params["b"].dtype) for features in sizes]
        flags = [jnp.zeros(batch_shape, jnp.int32), jnp.zeros((*batch_shape, size), bool)] if has_flags else []
        return leaves, flags

    def step(params, before, u):
        leaves, flags = before
        values = [u, *(leaf @ params[f"in{n}"] for n, leaf in enumerate(leaves))]
        if flags:
            count, seen = flags
            values[0] = jnp.where(seen, values[0], values[0] + count[..., None].astype(u.dtype))
            flags = [count + 1, jnp.logical_xor(seen, u > 0)]
        for n, (kind, (a, b, which, at)) in enumerate(plan):
            x, y = values[a % len(values)], values[b % len(values)]
            match kind:
                case "unary":
                    value = UNARY[which % len(UNARY)](x)
                case "binary":
                    value = BINARY[which % len(BINARY)](x, y)
                case "whole":
                    value = WHOLE[which % len(WHOLE)](x)
                case "product":
                    value = x @ params[f"w{n}"] + params["b"]
                case "heads":
                    three = jnp.stack([x, y, x * y], -2)
                    value = jnp.einsum("...hi,hio->...oh", three, params[f"w{n}"])
                    value = value.reshape(*x.shape[:-1], 6)[..., [at % 6]] * y
                case _:
                    cut = at % size
                    value = jnp.concatenate([x[..., cut:], y[..., :cut]], -1)
            values.append(value)
        total = jnp.tanh(sum(values[-3:]))
        after = [jnp.tanh(total @ params[f"out{n}"]) * 0.9 for n in range(len(sizes))]
        if seed % 3 == 0 and len(sizes) > 1 and sizes[1] == size:
            after[1] = leaves[0]
        return (after, flags), values[-1 - seed % 3] if seed % 2 else after[0]

    def project(params, xs):
        return xs @ params["x"]

    return jaxseq.Cell(size, init, carry, project, step)
