"""Training for so many seconds, for nets that are to have the same time: by the clock, or by what a step takes.

    optimizer = timed(optax.adam, optax.cosine_decay_schedule(1e-3, 180))  # a schedule of seconds
    step = TimedStep(train.make_step(loss_fn, optimizer))

How many steps fit into some time is known when it is over: a machine's speed changes with what else it does. So the
schedule counts seconds in place of steps. They are in the optimiser's state, and so in the checkpoints. On a machine
that does much else, the least time of a step says more than the clock: `least_seconds`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxseq import data, train


def timed(make: Callable[[Any], optax.GradientTransformation], rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser that `make` makes of a learning rate, which is `rate` of the seconds in its state."""
    return optax.inject_hyperparams(lambda elapsed: make(rate(elapsed)))(elapsed=0.0)


class TimedStep:
    """A step that keeps the seconds of training so far in the state of an optimiser of `timed`.

    What is done between a step and `start` is not counted.
    """

    def __init__(self, step: Callable, clock: Callable[[], float] = time.perf_counter):
        self.step, self.clock, self.seconds = step, clock, 0.0
        self.start()

    def start(self) -> None:
        """Lets the clock run from now on."""
        self.last = self.clock()

    def evaluator(self, measure: Callable[[Any], dict[str, float]]) -> Callable[[Any], dict[str, float]]:
        """Returns `measure`, of params, with the seconds of training so far beside its numbers; it takes no time."""

        def validate(params):
            found = {**measure(params), "seconds": self.seconds}
            self.start()
            return found

        return validate

    def __call__(self, state: train.TrainState, batch: data.Batch) -> tuple[train.TrainState, train.Report]:
        """Makes a step at the learning rate of now."""
        opt_state: Any = jax.block_until_ready(state).opt_state  # the step before is done by now
        before = opt_state.hyperparams["elapsed"]
        now = self.clock()
        self.seconds, self.last = float(before) + now - self.last, now
        opt_state = opt_state._replace(hyperparams={"elapsed": jnp.asarray(self.seconds, before.dtype)})
        return self.step(state._replace(opt_state=opt_state), batch)


class Run(NamedTuple):
    """A net that is ready to train: its step, and the state that it starts from."""

    step: Callable
    start: Callable[[], train.TrainState]


def least_seconds(
    runs: Mapping[str, Run], batch: data.Batch, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Returns the least seconds of a training step of each, in turns with the others; the first round compiles."""
    states, seconds = {name: run.start() for name, run in runs.items()}, {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = clock()
            states[name] = jax.block_until_ready(run.step(states[name], batch)[0])
            seconds[name].append(clock() - started)
    return {name: min(found[1:]) for name, found in seconds.items()}
