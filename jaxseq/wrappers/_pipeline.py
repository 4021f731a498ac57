"""Runs equal layers on several devices, as a wavefront over chunks of time (Appleyard et al. 2016; Huang et al. 2019).

    tick s:   the device of stage i runs its layers on chunk s - i of C, and passes the outputs to the next device

So layer l works on chunk c while layer l + 1 works on chunk c - 1. With n devices this takes C + n - 1 ticks. Each
device waits during n - 1 of them, the bubble: (n - 1) / (C + n - 1) of the time. Time is split into chunks, not the
batch. The carry at the end of a chunk is passed to the next chunk, so all values equal those of running the layers one
after the other.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq import _meshes, check, masking
from jaxseq._factory import factory
from jaxseq._unroll import step as step_net
from jaxseq.kernels._plan import register_net
from jaxseq.kernels._segments import even
from jaxseq.typing import Cell, Composite


def pipeline(layer: Cell | Composite, layers: int, sharding: NamedSharding, *, chunk: int | None = None) -> Composite:
    """Returns a net of equal layers that are distributed over the devices of a mesh and run chunk by chunk.

    Values and gradients are those of `stack(layer, layer, …)`. Params are those of the layer with a leading axis of
    layers, `[layers, ...]`. Put them on the mesh by `sharding`, so that each device holds only its own layers. The
    carry is a tuple with one entry per layer. Run the net outside of `jax.shard_map`. The batch may be split over
    another axis of the mesh. Noise is drawn again for each chunk, even noise that is otherwise constant in time. The
    net cannot be pickled, because devices cannot.

    Args:
      layer: a Cell or a causal Composite with as many features as inputs, D = H.
      layers: the number of layers, a multiple of the number of devices.
      sharding: how layers are split, `NamedSharding(mesh, PartitionSpec(axis))`.
      chunk: the steps that a device runs at a time. None: the number nearest to √(T / (devices - 1)) that divides T,
        which is the best if starting a chunk costs as much as a step. `kernels.explain` prints it and the bubble. If
        `chunk` does not divide T, the last chunk is padded.

    Raises:
      TypeError, ValueError: an argument does not fit, or `layers` is not a multiple of the devices. `init` raises
        ValueError if the inputs do not have H features. A run raises it if T is a symbol, and inside `jax.shard_map`
        over that axis.

    >>> from jax.sharding import NamedSharding, PartitionSpec
    >>> sharding = NamedSharding(jax.make_mesh((jax.device_count(),), ("stage",)), PartitionSpec("stage"))
    >>> net = pipeline(jaxseq.lstm(4), jax.device_count(), sharding)
    >>> params = jax.device_put(net.init(jax.random.key(0), 4), sharding)
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([16, 2, 4]))
    >>> ys.shape
    (16, 2, 4)
    """
    check.net(layer, "layer")
    check.causal(layer)
    layers, axis = check.positive_int("layers", layers), check.split_axis("sharding", sharding)
    devices = sharding.mesh.shape[axis]
    if layers % devices:
        raise ValueError(f"`layers` must be a multiple of the {devices} devices that `sharding` names; got {layers}")
    chunk = None if chunk is None else check.positive_int("chunk", chunk)
    return _pipeline(layer, layers, NamedSharding(sharding.mesh, PartitionSpec(axis)), chunk=chunk)


@factory
def _pipeline(layer, layers, sharding, *, chunk=None):
    (axis,), mesh = sharding.spec, sharding.mesh
    devices = mesh.shape[axis]

    def init(key, in_size, dtype=None):
        if in_size != layer.size:
            raise ValueError(
                f"`pipeline` needs inputs with the {layer.size} features of its layers' outputs; got {in_size}. Put a "
                "layer of that size before it."
            )
        return jax.vmap(lambda key: layer.init(key, in_size, dtype))(jax.random.split(key, layers))

    def carry(params, batch_shape=()):
        return tuple(layer.carry(of_layer, batch_shape) for of_layer in _split_layers(params, layers))

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        if not isinstance(xs.shape[0], int):
            raise ValueError(f"`pipeline` needs a fixed number of steps for its chunks; got {xs.shape[0]}, a symbol")
        if xs.shape[0] == 0:
            return carry, xs
        steps = min(chunk or best_chunk(xs.shape[0], devices), xs.shape[0])

        def of_all(carry, xs, params, mask, reset, key):
            return _wavefront(run, layer, params, xs, carry, mask, reset, key, steps, mesh, axis)

        if not reverse:
            return _meshes.split_as_given(of_all, carry, xs, params, mask, reset, key)
        crossed = None if reset is None else masking.reset_before_step(reset, reverse)
        xs, mask, crossed = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), (xs, mask, crossed))
        carry, ys = _meshes.split_as_given(of_all, carry, xs, params, mask, crossed, key)
        return carry, jnp.flip(ys, 0)

    def step(params, carry, x):
        after = []
        for of_layer, before in zip(_split_layers(params, layers), carry, strict=True):
            new, x = step_net(layer, of_layer, before, x)
            after.append(new)
        return tuple(after), x

    def plan(run, params, xs):
        T = xs.shape[0]
        best = best_chunk(T, devices)
        steps = max(1, min(chunk or best, T))
        part = jnp.zeros((steps, *xs.shape[1:]), xs.dtype)
        ends = tuple(run(layer, of_layer, part)[0] for of_layer in _split_layers(params, layers))
        ticks = -(-T // steps) + devices - 1
        why = f"a bubble of {devices - 1} in {ticks} ticks, {(devices - 1) / ticks:.0%}"

        def of_chunks(plan):
            return plan._replace(
                kernel=f"a pipeline over {devices} devices, each by {plan.kernel}",
                steps=T,
                segment=steps,
                reason=why if steps == best else f"{why}; chunks of {best} steps may be best",
                held=lambda: plan.held() * ticks // devices,
            )

        return ends, jnp.zeros_like(xs), of_chunks

    return register_net(Composite(layer.size, init, carry, unroll, step), plan)


def best_chunk(T: int, devices: int) -> int:
    """Returns the steps per chunk that minimise the time of all ticks, if starting a chunk costs as much as a step.

    (C + n - 1) (T / C + 1) is least for C = √((n - 1) T).
    """
    return even(T, round(math.sqrt(T / (devices - 1)))) if devices > 1 else T


def _wavefront(run, layer, params, xs, carry, mask, reset, key, steps, mesh, axis):
    """Returns the last carries and ys of all layers, running one chunk of steps per tick."""
    devices, layers, T = mesh.shape[axis], len(carry), xs.shape[0]
    chunks, missing = -(-T // steps), -T % steps
    if missing and mask is None:
        mask = jnp.ones(xs.shape[:-1], bool)
    parts = jax.tree.map(lambda leaf: _in_chunks(leaf, steps, missing), (xs, mask, reset))
    keys = None if key is None else jax.random.split(key, layers)

    def of_device(params, carries, keys, parts):
        params, parts = _meshes.vary_over(axis, (params, parts))
        stage = jax.lax.axis_index(axis)

        def tick(state, s):
            carries, received = state
            place = jnp.clip(s - stage, 0, chunks - 1)
            xs, mask, reset = jax.tree.map(
                lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False), parts
            )
            ys, after = jnp.where(stage == 0, xs, received), []
            for own in range(layers // devices):
                of_layer, before, key = _layer((params, carries, keys), own)
                noise = None if key is None else jax.random.fold_in(key, place)
                new, ys = run(layer, of_layer, ys, before, mask=mask, reset=reset, key=noise)
                after.append(new)
            works = (s >= stage) & (s - stage < chunks)
            carries = jax.tree.map(lambda new, old: jnp.where(works, new, old), _stack_layers(after), carries)
            return (carries, jax.lax.ppermute(ys, axis, [(i, i + 1) for i in range(devices - 1)])), ys

        start = carries, jnp.zeros_like(parts[0][0])
        (carries, _), ys = jax.lax.scan(tick, start, jnp.arange(chunks + devices - 1))
        of_last = jnp.where(stage == devices - 1, ys[devices - 1 :], 0)
        return carries, jax.lax.psum(of_last, axis)

    split, whole = PartitionSpec(axis), PartitionSpec()
    of_all = _meshes.map_over(axis, mesh, of_device, (split, split, split, whole), (split, whole))
    carries, ys = of_all(params, _stack_layers(carry), keys, parts)
    return _split_layers(carries, layers), ys.reshape(chunks * steps, *ys.shape[2:])[:T]


def _in_chunks(x, steps, missing):
    """Returns `[T, ...]` as `[chunks, steps, ...]`, padded at the end with zeros, or False in flags."""
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(len(x) // steps, steps, *x.shape[1:])


def _stack_layers(trees: Any) -> Any:
    """Returns the layers' trees as one tree of `[layers, ...]`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _split_layers(tree, layers):
    """Returns a tree of `[layers, ...]` as one tree per layer."""
    return _meshes.over_all(lambda tree: tuple(_layer(tree, place) for place in range(layers)), tree)


def _layer(tree, place):
    """Returns one layer's part of a tree of `[layers, ...]`."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
