"""Several devices and several processes: `--devices 2` and `--processes 2` of an example, by one command.

On a CPU the devices are made, and share its cores. The processes run on this machine; on a cluster each node starts one
itself, see docs/scaling.md.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from examples import positive
from jaxseq import train

ADDRESS, NUMBER = "EXAMPLE_ADDRESS", "EXAMPLE_PROCESS"  # the environment of a process that `launched` has started


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=positive, help="over which batches are split, of each process; default 1")
    parser.add_argument("--processes", type=positive, default=1, help="that train together; default %(default)s")
    parser.add_argument("--shard", action="store_true", help="split params and optimizer over the devices too")


def launched(module: str, args: argparse.Namespace, argv: list[str] | None) -> bool:
    """Starts the processes that were asked for and waits for them; returns False in each of them, and of one alone.

    Raises:
      SystemExit: one has failed; the others are ended.
    """
    if args.processes == 1 or NUMBER in os.environ:
        return False
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
    command = [sys.executable, "-m", module, *(sys.argv[1:] if argv is None else argv)]
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, ADDRESS: address, NUMBER: str(number)},
            stdout=subprocess.DEVNULL if number else None,  # the first one speaks for all
        )
        for number in range(args.processes)
    ]
    try:
        while any(process.poll() is None for process in running) and not any(process.poll() for process in running):
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    if failed := [number for number, process in enumerate(running) if process.returncode]:
        raise SystemExit(f"process {failed[0]} of {args.processes} has failed")
    return True


def join(args: argparse.Namespace) -> NamedSharding | None:
    """Returns how batches are split over all devices of all processes; None of one device."""
    if args.devices is None and args.processes == 1:
        return None
    count = args.devices or 1
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)
    if args.processes > 1:
        number = int(os.environ[NUMBER])
        limits: dict[str, Any] = {
            "heartbeat_timeout_seconds": 100,
            "shutdown_timeout_seconds": 3600,
        }  # the first one evaluates
        jax.distributed.initialize(os.environ[ADDRESS], args.processes, number, **limits)
    devices = [device for process in range(jax.process_count()) for device in jax.local_devices(process)[:count]]
    if len(devices) < count * args.processes:
        raise SystemExit(f"--devices {count}: there are {jax.local_device_count()} in a process")
    mesh = Mesh(devices, "data", axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


def is_first() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def shard(state: train.TrainState, sharding: NamedSharding, args: argparse.Namespace) -> train.TrainState:
    """Returns the state, split over the devices where `--shard` says so, and prints how much each holds."""
    state = train.shard_state(state, sharding) if args.shard else state
    over = f"{len(sharding.device_set)} devices, {len(sharding.addressable_devices)} in each process"
    print(f"batches split over {over}; of the state each holds {train.bytes_per_device(state):,} bytes", flush=True)
    return state
