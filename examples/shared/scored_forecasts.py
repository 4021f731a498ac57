"""What follows the training of forecasters: they are stored, read again, and scored once on the test part."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from examples.baselines import ridge
from examples.reports.forecasts import plot, print_scores
from examples.shared.forecasters import HEAD, Ensembles, Task
from jaxseq import train


def store_and_score(task: Task, nets: Ensembles, result: train.Fit, out: Path) -> None:
    """Writes curves.png, model and forecasts.png to `out`, and prints the scores of stored nets and baselines."""
    train.curves.plot(result.history, out / "curves.png", names=("loss", "MAE"))
    best = min(result.history, key=lambda row: row["validation/loss"])
    print(f"kept step {best['step']} of {result.history[-1]['step']}: ", end="")
    print(f"validation MAE {best['validation/MAE'] * task.scale:.3f}, of {task.what}")
    train.save(out / "model", result.params, {"levels": list(HEAD.levels), "scale": task.scale, **task.info})

    _, validation, test = task.parts
    members, linear = train.load(out / "model", result.params).tree, ridge.fit(task)
    quantiles = test.anchor[..., None] + task.scale * np.asarray(nets(members, jnp.asarray(test.xs)))
    earlier, forecasts = ({**part.naive, "linear autoregression": linear(part)} for part in (validation, test))
    maes = print_scores(task, quantiles, forecasts, earlier)
    plot(task, quantiles, maes, out / "forecasts.png")
