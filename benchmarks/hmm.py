"""How long does inference in a hidden Markov model take, beside hmmlearn, dynamax and PyTorch?

    python -m benchmarks.hmm [--states 5 50] [--steps 100 10000] [--batch 1] [--tasks …] [--rounds 20]

Likelihood, posteriors, best path, and the likelihood's gradient by the observations' log-probabilities, of one random
model, float32 (hmmlearn and PyTorch float64). jaxseq runs one step after the other, and in parallel blocks of time
(`parallel=True`); hmmlearn by the two ways of its C++ extension, a row at a time; dynamax in sequence, and in parallel
where it has that, mapped over rows; PyTorch by a loop of `logsumexp`. All agree before anything is timed.
Milliseconds, min and median over rounds in which they take turns, and their median over the better of jaxseq's two.
"""

import argparse
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from dynamax.hidden_markov_model import inference as dynamax  # pyright: ignore[reportMissingImports]
from dynamax.hidden_markov_model import parallel_inference as dynamax_parallel  # pyright: ignore[reportMissingImports]
from hmmlearn import _hmmc  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

from benchmarks import measure
from jaxseq.structured import hmm

TASKS = ("likelihood", "posteriors", "path", "gradient")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, nargs="+", default=[5, 50])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=TASKS)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    print(measure.describe_machine())
    for task in args.tasks:
        for K in args.states:
            for T in args.steps:
                for B in args.batch:
                    compare(task, K, T, B, args.rounds)


def compare(task: str, K: int, T: int, B: int, rounds: int) -> None:
    generator = np.random.default_rng(0)
    initial, *rows = generator.dirichlet(np.ones(K), size=K + 1)
    log_obs = generator.normal(size=(T, B, K)) * 2
    ways = by_jaxseq(task, initial, np.array(rows), log_obs) | by_others(task, initial, np.array(rows), log_obs)
    results = {name: np.asarray(way()) for name, way in ways.items()}
    if task == "path":  # of two that are near the best, rounding takes one or the other
        score = functools.partial(score_of, np.log(initial), np.log(np.array(rows)), log_obs)
        results = {name: score(states) for name, states in results.items()}
    measure.check_agreement(results, tolerance=1e-3)
    times = measure.take_turns(ways, rounds)
    ours = min(time.median for name, time in times.items() if name.startswith("jaxseq"))
    print(f"\n{task}, K = {K}, T = {T}, B = {B}")
    for name, time in times.items():
        print(f"  {name:18}{1e3 * time.minimum:10.3f}{1e3 * time.median:10.3f}{time.median / ours:9.2f}")


def score_of(log_initial, log_transition, log_obs, states):
    """The log-probability of paths int `[T, B]` with the observations, float64 `[B]`."""
    seen = np.take_along_axis(log_obs, states[..., None], -1)[..., 0].sum(0)
    return log_initial[states[0]] + log_transition[states[:-1], states[1:]].sum(0) + seen


def by_jaxseq(task, initial, transition, log_obs):
    initial, transition = (jnp.asarray(np.log(x), jnp.float32) for x in (initial, transition))
    log_obs = jnp.asarray(log_obs, jnp.float32)

    def run(log_obs, parallel):
        if task == "likelihood":
            return hmm.log_likelihood(initial, transition, log_obs, parallel=parallel)
        if task == "posteriors":
            return jnp.exp(hmm.smooth(initial, transition, log_obs, parallel=parallel))
        if task == "path":
            return hmm.viterbi(initial, transition, log_obs, parallel=parallel).states
        return jax.grad(lambda log_obs: hmm.log_likelihood(initial, transition, log_obs, parallel=parallel).sum())(
            log_obs
        )

    names = {False: "jaxseq", True: "jaxseq, parallel"}
    return {name: measure.compile_call(functools.partial(run, parallel=on), log_obs).call for on, name in names.items()}


def by_others(task, initial, transition, log_obs):
    as_jax = [jnp.asarray(x, jnp.float32) for x in (initial, transition, log_obs)]
    log_initial, log_transition, torch_obs = (
        torch.tensor(x, dtype=torch.float64) for x in (np.log(initial), np.log(transition), log_obs)
    )
    rows = [np.ascontiguousarray(log_obs[:, b]) for b in range(log_obs.shape[1])]

    def dynamax_by(function, pick):
        mapped = jax.vmap(lambda obs: field_of(pick, function(as_jax[0], as_jax[1], obs)), 1, pick.axis)
        return measure.compile_call(mapped, as_jax[2]).call

    def each_row(function):
        return lambda: np.stack([function(row) for row in rows], -1 if task in ("likelihood", "path") else 1)

    def torch_loop(obs):
        alpha = log_initial + obs[0]
        for t in range(1, len(obs)):
            alpha = torch.logsumexp(alpha[:, :, None] + log_transition, 1) + obs[t]
        return torch.logsumexp(alpha, -1)

    def torch_gradient():
        obs = torch_obs.clone().requires_grad_()
        torch_loop(obs).sum().backward()
        return obs.grad

    if task == "likelihood":
        return {
            "hmmlearn, log": each_row(lambda row: _hmmc.forward_log(initial, transition, row)[0]),
            "hmmlearn, scaling": each_row(lambda row: scaled_forward(initial, transition, row)[0]),
            "dynamax": dynamax_by(dynamax.hmm_filter, Pick("marginal_loglik", 0)),
            "dynamax, parallel": dynamax_by(dynamax_parallel.hmm_filter, Pick("marginal_loglik", 0)),
            "torch": lambda: torch_loop(torch_obs),
        }
    if task == "path":
        return {
            "hmmlearn": each_row(lambda row: _hmmc.viterbi(initial, transition, row)[1]),
            "dynamax": dynamax_by(dynamax.hmm_posterior_mode, Pick(None, 1)),
        }
    if task == "posteriors":
        return {
            "hmmlearn, log": each_row(lambda row: posteriors_by_log(initial, transition, row)),
            "hmmlearn, scaling": each_row(lambda row: posteriors_by_scaling(initial, transition, row)),
            "dynamax": dynamax_by(dynamax.hmm_smoother, Pick("smoothed_probs", 1)),
            "dynamax, parallel": dynamax_by(dynamax_parallel.hmm_smoother, Pick("smoothed_probs", 1)),
        }
    return {
        "dynamax": measure.compile_call(
            jax.grad(lambda obs: sum(jax.vmap(dynamax.hmm_filter, (None, None, 1))(*as_jax[:2], obs).marginal_loglik)),
            as_jax[2],
        ).call,
        "torch": torch_gradient,
    }


class Pick(NamedTuple):
    """One field of a posterior, None for the whole, and the batch's axis in it."""

    field: str | None
    axis: int


def field_of(pick, posterior):
    return posterior if pick.field is None else getattr(posterior, pick.field)


def scaled_forward(initial, transition, row):
    largest = row.max(1, keepdims=True)
    log_likelihood, alphas, scales = _hmmc.forward_scaling(initial, transition, np.exp(row - largest))
    return log_likelihood + largest.sum(), alphas, scales, np.exp(row - largest)


def posteriors_by_log(initial, transition, row):
    log_gamma = _hmmc.forward_log(initial, transition, row)[1] + _hmmc.backward_log(initial, transition, row)
    log_gamma -= log_gamma.max(1, keepdims=True)
    gamma = np.exp(log_gamma)
    return gamma / gamma.sum(1, keepdims=True)


def posteriors_by_scaling(initial, transition, row):
    _, alphas, scales, probs = scaled_forward(initial, transition, row)
    gamma = alphas * _hmmc.backward_scaling(initial, transition, probs, scales)
    return gamma / gamma.sum(1, keepdims=True)


if __name__ == "__main__":
    main()
