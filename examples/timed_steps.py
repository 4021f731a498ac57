"""Training for so many seconds: a learning rate that follows the clock, for nets that are to have the same time.

    optimizer = timed(optax.adam, optax.cosine_decay_schedule(1e-3, 180))  # a schedule of seconds
    step = TimedStep(train.make_step(loss_fn, optimizer))

How many steps fit into some time is known when it is over: a machine's speed changes with what else it does. So the
schedule counts seconds in place of steps. They are in the optimiser's state, and so in the checkpoints.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxseq import data, train


def timed(
    make: Callable[[jax.Array], optax.GradientTransformation], rate: optax.Schedule
) -> optax.GradientTransformation:
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

    def __call__(self, state: train.TrainState, batch: data.Batch) -> tuple[train.TrainState, train.Report]:
        """Makes a step at the learning rate of now."""
        before = jax.block_until_ready(state).opt_state.hyperparams["elapsed"]  # the step before is done by now
        now = self.clock()
        self.seconds, self.last = float(before) + now - self.last, now
        opt_state = state.opt_state._replace(hyperparams={"elapsed": jnp.asarray(self.seconds, before.dtype)})
        return self.step(state._replace(opt_state=opt_state), batch)
