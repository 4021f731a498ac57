"""Processes of `jax.distributed` on one machine, for tests: forked, waited for no longer than a limit, and ended.

The process that forks has imported all that they need, and computed nothing: a rank is up in less than a second.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings

import jax

from tests.untyped import untyped

LIMIT = 100.0
"""Seconds for ranks to end, also where one is lost."""


def run_module(module, *arguments, limit, devices=2):
    """Runs `python -m module *arguments`, whose ranks have so many devices each; returns what it printed.

    Raises where it fails. Beyond the limit it is killed, and what it has forked with it.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    if cache := untyped(jax.config).jax_compilation_cache_dir:
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, errors[-8000:]
    return output


def start(count, do, folder, *, heartbeat=200):
    """Forks ranks, each of which joins the others and calls `do`; what they print goes to files in `folder`.

    A rank that is lost is noticed after `heartbeat` seconds.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    warnings.filterwarnings("ignore", "os.fork")
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    return [os.fork() or _be(rank, count, port, do, folder, heartbeat) for rank in range(count)]


def _be(rank, count, port, do, folder, heartbeat):
    """What a forked process does; it does not return."""
    with (folder / f"rank-{rank}.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        limits = {"heartbeat_timeout_seconds": heartbeat, "shutdown_timeout_seconds": 20}
        jax.distributed.initialize(f"127.0.0.1:{port}", count, rank, **limits)
        do()
        jax.distributed.shutdown()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def ended(ranks, limit=LIMIT):
    """Returns how each rank ended, as a return code; raises if one has not within the limit. None is left.

    Time in which this process is itself stopped does not count.
    """
    waited, last, codes = 0.0, time.monotonic(), {}
    while len(codes) < len(ranks) and waited < limit:
        for rank in set(ranks) - codes.keys():
            pid, status = os.waitpid(rank, os.WNOHANG)
            if pid:
                codes[rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
        now = time.monotonic()
        waited, last = waited + min(now - last, 1.0), now
    for rank in set(ranks) - codes.keys():
        os.kill(rank, signal.SIGKILL)
        os.waitpid(rank, 0)
    assert len(codes) == len(ranks), f"{len(ranks) - len(codes)} of {len(ranks)} ranks had not ended in {limit} s"
    return [codes[rank] for rank in ranks]
