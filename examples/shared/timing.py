"""Seconds of training steps, measured."""

import statistics
import time

import jax


def time_steps(together, alone, states, batch, rounds: int) -> tuple[float, float]:
    """Returns the seconds of one step of all members together, and of as many steps one after another: medians."""
    singles = [jax.tree.map(lambda leaf, m=m: leaf[m], states) for m in range(len(states.step))]
    seconds = {"together": [], "alone": []}
    for _ in range(rounds + 1):
        started = time.perf_counter()
        states = jax.block_until_ready(together(states, batch)[0])
        seconds["together"].append(time.perf_counter() - started)
        started = time.perf_counter()
        singles = jax.block_until_ready([alone(state, batch)[0] for state in singles])
        seconds["alone"].append(time.perf_counter() - started)
    return tuple(statistics.median(times[1:]) for times in seconds.values())  # the first round compiles
