"""The one XLA setting that makes short loops faster, which a program must make before JAX is first used."""

import os

from jaxseq import check

_OPTIONS = "--xla_backend_extra_options="
_THRESHOLD = "xla_cpu_small_while_loop_byte_threshold"


def compile_loops_whole(max_bytes: int = 4 * 2**20) -> None:
    """Lets XLA:CPU compile every loop that works on at most `max_bytes` as one function, on one core.

    XLA otherwise runs a loop's body operation by operation, at half a microsecond each: for a single sequence of few
    features that is most of the time. A training step of an LSTM at B = 1, T = 1000, H = 32 takes 0.4 of the time;
    for batches nothing changes. Call it before JAX's first use; it holds for the whole process, all of JAX's loops.

    It adds `--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=…` to the environment's XLA_FLAGS.

    Raises:
      RuntimeError: JAX has been used already, and would not see it; or XLA_FLAGS names a file of flags.
      TypeError, ValueError: `max_bytes` is not a positive int.
    """
    from jax._src import xla_bridge  # JAX has no public way to ask whether it has been used

    max_bytes = check.positive_int("max_bytes", max_bytes)
    if xla_bridge.backends_are_initialized():
        raise RuntimeError("compile_loops_whole must be called before JAX's first use: XLA has read its flags already")
    flags = os.environ.get("XLA_FLAGS", "").split()
    if flags and not flags[0].startswith("-"):
        raise RuntimeError(f"XLA_FLAGS names a file: add {_OPTIONS}{_THRESHOLD}={max_bytes} to {flags[0]}")
    options = [option for flag in flags if flag.startswith(_OPTIONS) for option in flag[len(_OPTIONS) :].split(",")]
    options = [option for option in options if option and option.split("=")[0] != _THRESHOLD]
    others = [flag for flag in flags if not flag.startswith(_OPTIONS)]
    os.environ["XLA_FLAGS"] = " ".join([*others, _OPTIONS + ",".join([*options, f"{_THRESHOLD}={max_bytes}"])])
