"""Diagnostics of a net: gradient flow, Jacobians, eigenvalues, gates, saliency, alignments, Newton's rounds.

Plain functions return arrays, for your own figures and tests. Each family has a `plot_*` function, which needs
matplotlib and imports it only when it is called.

    norms = diagnostics.gradient_norms(cell, params, xs, loss)         where the gradient vanishes
    diagnostics.plot_gradient_norms(norms)
"""

from jaxseq.diagnostics._alignment import plot_alignment as plot_alignment
from jaxseq.diagnostics._eigenvalues import eigenvalues as eigenvalues
from jaxseq.diagnostics._eigenvalues import memory_lengths as memory_lengths
from jaxseq.diagnostics._eigenvalues import plot_eigenvalues as plot_eigenvalues
from jaxseq.diagnostics._gates import gate_traces as gate_traces
from jaxseq.diagnostics._gates import plot_gates as plot_gates
from jaxseq.diagnostics._gradients import carry_gradients as carry_gradients
from jaxseq.diagnostics._gradients import gradient_norms as gradient_norms
from jaxseq.diagnostics._gradients import plot_gradient_norms as plot_gradient_norms
from jaxseq.diagnostics._jacobians import jacobian_singular_values as jacobian_singular_values
from jaxseq.diagnostics._jacobians import jacobians as jacobians
from jaxseq.diagnostics._jacobians import lyapunov_exponents as lyapunov_exponents
from jaxseq.diagnostics._jacobians import plot_singular_values as plot_singular_values
from jaxseq.diagnostics._newton import NewtonReport as NewtonReport
from jaxseq.diagnostics._newton import newton_report as newton_report
from jaxseq.diagnostics._saliency import gradient_times_input as gradient_times_input
from jaxseq.diagnostics._saliency import integrated_gradients as integrated_gradients
from jaxseq.diagnostics._saliency import leave_one_out as leave_one_out
from jaxseq.diagnostics._saliency import plot_saliency as plot_saliency
from jaxseq.diagnostics._saturation import Saturation as Saturation
from jaxseq.diagnostics._saturation import plot_saturation as plot_saturation
from jaxseq.diagnostics._saturation import saturation as saturation
