"""Linear recurrences: the algebras of linear steps, one per file, and the cells built from them.

    diagonal       h' = a ⊙ h + b
    outer          S' = Diag(α) S + k vᵀ                         read as qᵀ S'
    scaled outer   the same with exponential gates, scaled by e^{-m}    (mLSTM)
    delta          S' = α (I - β k kᵀ) S + β k vᵀ                read as qᵀ S'

A linear cell defines the element of a step and how outputs are read. `linear_cell` turns it into a `Cell`, which works
with every kernel, mask and reset.
"""

from jaxseq.recurrences._cell import linear_cell as linear_cell
from jaxseq.recurrences._delta import Delta as Delta
from jaxseq.recurrences._diagonal import Diagonal as Diagonal
from jaxseq.recurrences._outer import Outer as Outer
from jaxseq.recurrences._scaled_outer import Observed as Observed
from jaxseq.recurrences._scaled_outer import ScaledOuter as ScaledOuter
