"""The recurrent layer: any cell or net of cells, batch-major."""

from jaxseq.nn.recurrent._recurrent import Recurrent as Recurrent
