"""Linear-chain conditional random fields (Lafferty, McCallum & Pereira 2001): each tag depends on the one before it.

    p(y | x) = exp(start[y_1] + Σ_t scores_t[y_t] + Σ_t transition[y_{t-1}, y_t] + end[y_T]) / Z(x)

The scores `[T, B, K]` of x come from any net, K per step. `Params` are the field's own. To train, maximise
`log_likelihood`. To tag, take the `viterbi` path or the `k_best` paths; `marginals` give the probability of each tag.

>>> from jaxseq.structured import crf
>>> params = crf.Params(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.zeros(2), jnp.zeros(2))
>>> scores = jnp.array([[2.0, 0.0], [0.0, 0.5], [2.0, 0.0]])
>>> tags, score = crf.viterbi(params, scores)
>>> tags.tolist(), score.item()
([0, 0, 0], 6.0)

`bio`, or an `Allowed` of your own, tells which tags may follow each other, and `constrain` forbids all others.
"""

from jaxseq.structured.crf._inference import Path as Path
from jaxseq.structured.crf._inference import log_likelihood as log_likelihood
from jaxseq.structured.crf._inference import log_partition as log_partition
from jaxseq.structured.crf._inference import marginals as marginals
from jaxseq.structured.crf._inference import pairs as pairs
from jaxseq.structured.crf._inference import sample as sample
from jaxseq.structured.crf._inference import score as score
from jaxseq.structured.crf._inference import viterbi as viterbi
from jaxseq.structured.crf._k_best import k_best as k_best
from jaxseq.structured.crf._params import Allowed as Allowed
from jaxseq.structured.crf._params import Params as Params
from jaxseq.structured.crf._params import bio as bio
from jaxseq.structured.crf._params import constrain as constrain
from jaxseq.structured.crf._params import init as init
