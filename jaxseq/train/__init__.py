"""Training: a jitted step, the loop around it, losses, metrics, checkpoints, fine-tuning, ensembles, compression.

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    step = train.make_step(loss_fn, optimizer)              loss_fn(params, batch, key) -> (loss, {"accuracy": ...})
    state = train.init(params, optimizer, jax.random.key(0))
    result = train.fit(step, state, batches, epochs=10, validate=train.evaluator(loss_fn, validation_batches))
    train.save("params", result.params, {"words": words})
    train.save_model("model", nnx.merge(graph, result.params), {"words": words})
    model, info = train.load_model("model")

Params are any pytree of arrays: those of a cell, or an `nnx.State` from `nnx.split(model, nnx.Param)`. Optimizers,
learning-rate schedules and clipping come from optax.
"""

from jaxseq._placement import bytes_per_device as bytes_per_device
from jaxseq._serialise import register as _register
from jaxseq.train import adapters as adapters
from jaxseq.train import callbacks as callbacks
from jaxseq.train import compression as compression
from jaxseq.train import curves as curves
from jaxseq.train import groups as groups
from jaxseq.train import losses as losses
from jaxseq.train import metrics as metrics
from jaxseq.train._devices import shard_state as shard_state
from jaxseq.train._evaluate import evaluator as evaluator
from jaxseq.train._fit import Fit as Fit
from jaxseq.train._fit import fit as fit
from jaxseq.train._models import StoredModel as StoredModel
from jaxseq.train._models import load_model as load_model
from jaxseq.train._models import save_model as save_model
from jaxseq.train._run import Checkpoints as Checkpoints
from jaxseq.train._step import Report as Report
from jaxseq.train._step import TrainState as TrainState
from jaxseq.train._step import init as init
from jaxseq.train._step import make_step as make_step
from jaxseq.train._store import Stored as Stored
from jaxseq.train._store import TornError as TornError
from jaxseq.train._store import load as load
from jaxseq.train._store import load_info as load_info
from jaxseq.train._store import save as save
from jaxseq.train._store import saved as saved
from jaxseq.train._transfer import Transferred as Transferred
from jaxseq.train._transfer import transfer as transfer
from jaxseq.train._watch import NonFiniteError as NonFiniteError
from jaxseq.train.ensemble import average as average
from jaxseq.train.groups import by_path as by_path
from jaxseq.train.groups import per_group as per_group

_register(__name__, *(f"{__name__}.{name}" for name in ("adapters", "compression", "metrics")))
