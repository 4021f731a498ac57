"""A function in two forms with equal results: a plain one of JAX operations, and a native one for the CPU.

The function is a JAX primitive. If it is lowered for a CPU, the native form runs. It is compiled at lowering, not at
tracing. The plain form runs on other platforms, under `jax.export`, whose artefacts run on other machines, and under
`jax.disable_jit`. It also runs if the compiler splits arrays over several devices, because the compiler cannot split a
native call. Inside `jax.shard_map` arrays are already split, so the native form runs. Derivatives and `jax.vmap` are
those of the plain form.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxseq._meshes import local_types, vary_alike, zeros_types


def in_two_forms(
    plain: Callable[..., list[jax.Array]],
    native: Callable[..., list[jax.Array]],
    shapes: Sequence[jax.ShapeDtypeStruct],
    *arguments: jax.Array,
) -> list[jax.Array]:
    """Returns `plain(*arguments)`, arrays of `shapes`. On a CPU `native(keep, *arguments)` computes them.

    `keep(object)` makes JAX hold a reference to an object for as long as it holds the compiled program.
    """
    return _two_forms.bind(*arguments, plain=plain, native=native, shapes=tuple(shapes))


def _types(*arguments: Any, plain, native, shapes):
    return zeros_types(shapes, like=arguments)


def _plain(*arguments, plain, native, shapes):
    return plain(*arguments)


def _lower(context, *arguments, plain, native, shapes):
    module, form = context.module_context, plain
    if not module.lowering_parameters.for_export and not _is_split(module.axis_context):

        def form(*arguments):
            return native(module.add_keepalive, *arguments)

    here = context.replace(avals_in=local_types(context.avals_in), avals_out=local_types(context.avals_out))
    return mlir.lower_fun(form, multiple_results=True)(here, *arguments)


def _is_split(context):
    """Returns whether the compiler may split arrays over several devices. It does not split over manual axes."""
    manual = getattr(context, "manual_axes", None)
    if manual is None:
        return (getattr(context, "num_devices", None) or 1) > 1
    return any(size > 1 for name, size in context.mesh.shape.items() if name not in manual)


def _derivative(primals, tangents, *, plain, native, shapes):
    varied = [place for place, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of_varied(*leaves):
        at = dict(enumerate(primals)) | dict(zip(varied, leaves, strict=True))
        return plain(*vary_alike([*at.values()]))

    return jax.jvp(of_varied, [primals[place] for place in varied], [tangents[place] for place in varied])


def _mapped(arguments, axes, *, plain, native, shapes):
    results = jax.vmap(lambda *arguments: plain(*vary_alike([*arguments])), in_axes=axes)(*arguments)
    return results, [0] * len(results)


_two_forms = Primitive("native_loop")
_two_forms.multiple_results = True
_two_forms.def_impl(_plain)
_two_forms.def_abstract_eval(_types)
mlir.register_lowering(_two_forms, mlir.lower_fun(_plain, multiple_results=True))
mlir.register_lowering(_two_forms, _lower, platform="cpu")
ad.primitive_jvps[_two_forms] = _derivative
batching.primitive_batchers[_two_forms] = _mapped
