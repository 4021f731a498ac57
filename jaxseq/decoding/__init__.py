"""From logits to tokens."""

from jaxseq.decoding._sampling import filter_logits as filter_logits
from jaxseq.decoding._sampling import sample as sample

__all__ = ["filter_logits", "sample"]
