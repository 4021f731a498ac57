"""Every cell, wrapper and kernel that the laws are proved for, each cell and net beside its NumPy form.

Cells and wrappers join by a file of tests/forms/, kernels here.
"""

import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from jaxseq import kernels
from tests import forms, reference, reference_nets
from tests.forms.entry import SIZE as SIZE
from tests.forms.entry import Entry, cell_entry
from tests.forms.own import own_lstm as own_lstm


def _collected(name):
    """What all files of tests/forms/ hold under a name."""
    names = sorted(module.name for module in pkgutil.iter_modules(forms.__path__))
    modules = [importlib.import_module(f"tests.forms.{module}") for module in names]
    return {key: entry for module in modules for key, entry in getattr(module, name, {}).items()}


CELLS = _collected("CELLS")


def below(entry):
    """A layer that gives the entry's cell inputs of its own size."""
    return cell_entry(jaxseq.rnn(entry.cell.size), reference.rnn())


def stacked(entry):
    first = below(entry)
    return Entry(jaxseq.stack(first.cell, entry.cell), reference_nets.stack(first.net, entry.net))


def residual(entry):
    first = below(entry)
    net = jaxseq.stack(first.cell, jaxseq.residual(entry.cell))
    return Entry(net, reference_nets.stack(first.net, reference_nets.residual(entry.net)))


def backwards(entry):
    return Entry(jaxseq.backwards(entry.cell), reference_nets.backwards(entry.net))


def bidirectional(entry):
    return Entry(jaxseq.bidirectional(entry.cell), reference_nets.bidirectional(entry.net, entry.net))


def bidirectional_merged(entry, merge):
    other = below(entry)
    net = jaxseq.bidirectional(entry.cell, other.cell, merge=merge)
    return Entry(net, reference_nets.bidirectional(entry.net, other.net, merge))


bidirectional_sum = functools.partial(bidirectional_merged, merge="sum")


def dropped(entry):
    """Dropout of inputs and outputs, which is nothing without a key."""
    return entry._replace(cell=jaxseq.dropout(entry.cell, inputs=0.3, outputs=0.3))


def recurrently_dropped(entry):
    return entry._replace(cell=jaxseq.dropout(entry.cell, recurrent=0.3))


def learned(entry):
    return Entry(jaxseq.learned_carry(entry.cell), reference_nets.learned_carry(entry.form, entry.net), entry.form)


def deep(entry):
    """Three deep, causal: dropout around a stack of a residual stack."""
    first = below(entry)
    inner = jaxseq.residual(jaxseq.stack(entry.cell, jaxseq.residual(first.cell)))
    inner_net = reference_nets.residual(reference_nets.stack(entry.net, reference_nets.residual(first.net)))
    net = jaxseq.dropout(jaxseq.stack(first.cell, inner), inputs=0.2)
    return Entry(net, reference_nets.stack(first.net, inner_net))


def deep_bidirectional(entry):
    """Three deep, in both directions: bidirectional around a stack of a bidirectional and a learned carry."""
    inner, top = bidirectional_sum(entry), learned(below(entry))
    return bidirectional(Entry(jaxseq.stack(inner.cell, top.cell), reference_nets.stack(inner.net, top.net)))


WRAPPERS = {
    "stack": stacked,
    "residual": residual,
    "backwards": backwards,
    "bidirectional": bidirectional,
    "bidirectional_sum": bidirectional_sum,
    "bidirectional_mul": functools.partial(bidirectional_merged, merge="mul"),
    "dropout": dropped,
    "recurrent_dropout": recurrently_dropped,
    "learned_carry": learned,
    "deep": deep,
    "deep_bidirectional": deep_bidirectional,
    **_collected("WRAPPERS"),
}
BY_NAME = ("zoneout", "recurrent_dropout")  # they act on parts of the carry by name, which a plain tuple has not
OF_CELLS = (*BY_NAME, "learned_carry", "leak")  # not of composites


@functools.cache
def find(name):
    """The entry of a cell, or of a wrapped one, `wrapper(cell)`."""
    if name in CELLS:
        return CELLS[name]
    wrapper, cell = name.removesuffix(")").split("(")
    return WRAPPERS[wrapper](CELLS[cell])


def wrapped(wrapper):
    """The names of all cells in a wrapper."""
    return [f"{wrapper}({cell})" for cell in CELLS if _takes(wrapper, CELLS[cell])]


def _takes(wrapper, entry):
    """Whether a cell goes into a wrapper."""
    if isinstance(entry.cell, jaxseq.Composite):
        return wrapper not in OF_CELLS
    if entry.cell.linear is not None:  # no weights hear the carry, and y may be something else
        (h, *_) = entry.net.start(None, 1)
        return wrapper != "recurrent_dropout" and (
            wrapper != "zoneout" or (h.shape == (1, entry.cell.size) and not np.iscomplexobj(h))
        )
    return not (wrapper in BY_NAME and entry is CELLS["own"])


def by_hand(cell, params, carry, xs, *, reverse=False):
    """A user's own kernel: a Python loop that projects each step apart."""
    T = jax.tree.leaves(xs)[0].shape[0]
    ys = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        x = jax.tree.map(lambda x, t=t: x[t], xs)
        carry, ys[t] = cell.step(params, carry, cell.project(params, x))
    return carry, jnp.stack(ys)


KERNELS = {
    "scan": kernels.scan,
    "bptt": kernels.bptt,
    "remat": kernels.remat(3),
    "native": kernels.native,
    "associative": kernels.associative,
    "chunkwise": kernels.chunkwise(3),
    "newton": kernels.newton(),
    "by_hand": by_hand,
}


@functools.cache
def runs(kernel_name, net_name):
    """Whether a kernel runs a net: there is no native loop of a convolution, nor of complex numbers."""
    cell = net_name.removesuffix(")").split("(")[-1]
    if kernel_name == "native":
        return not (cell.startswith("conv_lstm") or cell in ("lru", "s5"))
    return kernel_name not in ("associative", "chunkwise") or is_linear(find(net_name).cell)


@functools.cache
def is_linear(net):
    """Whether all cells of a net say how they are linear: then kernels of linear cells run it."""
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), 3))
    try:
        return (
            kernels.explain(
                net, params, jax.ShapeDtypeStruct((2, 3), jnp.result_type(float)), kernel=kernels.associative
            )
            != ""
        )
    except ValueError:
        return False


OTHER_KERNELS = {  # these have their own laws, in test_kernels.py, test_cudnn.py and test_sequence_parallel.py
    "truncated": kernels.truncated(3),
    "cudnn": kernels.cudnn,
    "sequence_parallel": kernels.sequence_parallel,
}
OTHER_WRAPPERS = {"pipeline": jaxseq.pipeline}  # needs a mesh; wrappers/test_pipeline.py holds it against `stack`


def random_like(tree, seed, scale=0.5):
    """A tree of the same shapes and dtypes with normal entries; biases too, so that no gradient hides behind a zero."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        drawn = generator.normal(0, scale, leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            drawn = drawn + 1j * generator.normal(0, scale, leaf.shape)
        return jax.device_put(drawn.astype(leaf.dtype))

    return jax.tree.map(draw, tree)


def params_of(net, in_size, dtype=None, *, seed=0, scale=0.5):
    """Random params of a net: `random_like` those that it draws itself, which would compile programs."""
    return random_like(jax.eval_shape(lambda: net.init(jax.random.key(0), in_size, dtype)), seed, scale)


def as_reference(params):
    """Params as the reference takes them: dicts of NumPy arrays without Nones, in tuples where nets are nested."""
    if isinstance(params, jaxseq.LearnedCarry):
        return as_reference(params.params), tuple(map(np.asarray, jax.tree.leaves(params.carry)))
    if isinstance(params, jaxseq.Bidirectional) or type(params) is tuple:
        return tuple(map(as_reference, params))
    entries = params if isinstance(params, dict) else params._asdict()
    return {name: np.asarray(value) for name, value in entries.items() if value is not None}


def assert_close(got, want, tolerance, what=""):
    """Holds two pytrees of the same leaves together; the message names the leaf."""
    got_leaves, want_leaves = jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want)
    assert len(got_leaves) == len(want_leaves), what
    for (path, got_leaf), want_leaf in zip(got_leaves, want_leaves, strict=True):
        name = f"{what}{jax.tree_util.keystr(path)}"
        wide = np.complex128 if np.iscomplexobj(want_leaf) else np.float64
        got_array, want_array = np.asarray(got_leaf, wide), np.asarray(want_leaf, wide)
        assert got_array.shape == want_array.shape, name
        np.testing.assert_allclose(got_array, want_array, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_same_dtypes(got, want):
    assert [leaf.dtype for leaf in jax.tree.leaves(got)] == [leaf.dtype for leaf in jax.tree.leaves(want)]
