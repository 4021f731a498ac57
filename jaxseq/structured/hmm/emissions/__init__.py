"""Emissions, the distributions p(x_t | s_t), one family per file: equations, params, initial values, M-step, draws."""

from jaxseq.structured.hmm.emissions._categorical import CategoricalParams as CategoricalParams
from jaxseq.structured.hmm.emissions._categorical import categorical as categorical
from jaxseq.structured.hmm.emissions._emission import Emission as Emission
from jaxseq.structured.hmm.emissions._emission import Params as Params
from jaxseq.structured.hmm.emissions._emission import observe as observe
from jaxseq.structured.hmm.emissions._full_gaussian import FullGaussianParams as FullGaussianParams
from jaxseq.structured.hmm.emissions._full_gaussian import full_gaussian as full_gaussian
from jaxseq.structured.hmm.emissions._gaussian import GaussianParams as GaussianParams
from jaxseq.structured.hmm.emissions._gaussian import gaussian as gaussian
from jaxseq.structured.hmm.emissions._gaussian_mixture import GaussianMixtureParams as GaussianMixtureParams
from jaxseq.structured.hmm.emissions._gaussian_mixture import gaussian_mixture as gaussian_mixture
from jaxseq.structured.hmm.emissions._poisson import PoissonParams as PoissonParams
from jaxseq.structured.hmm.emissions._poisson import poisson as poisson
from jaxseq.structured.hmm.emissions._prior import GaussianPrior as GaussianPrior
