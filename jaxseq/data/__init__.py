"""Data preparation: from raw files to batches for a training loop.

* Text and series: `Vocabulary`, `words`, `Normalizer`, `fill_missing`, `windows`, `cyclic`.
* Parts of a data set: `split`, `split_in_time`, `unique`.
* Arrays: `pad`, `pack`.
* Batches: `batches`, `bucketed` and `streams` return a `Loader`; `prefetch` sends its batches to the device.
* Augmentation on the device: `time_mask`, `feature_mask`, `jitter`, `token_dropout`.
* Features of sound: `read_wav`, `frames`, `log_mel`, `mfcc`, `deltas`.

All arrays are batch-major, `[B, T, D]`. Functions that run on the host use NumPy and give the same result in every run.
"""

from jaxseq._serialise import register as _register
from jaxseq.data._audio import deltas as deltas
from jaxseq.data._audio import frame_count as frame_count
from jaxseq.data._audio import frame_mask as frame_mask
from jaxseq.data._audio import frames as frames
from jaxseq.data._audio import log_mel as log_mel
from jaxseq.data._audio import mel_filters as mel_filters
from jaxseq.data._audio import mfcc as mfcc
from jaxseq.data._audio import power_spectrogram as power_spectrogram
from jaxseq.data._audio import preemphasis as preemphasis
from jaxseq.data._augment import feature_mask as feature_mask
from jaxseq.data._augment import jitter as jitter
from jaxseq.data._augment import time_mask as time_mask
from jaxseq.data._augment import token_dropout as token_dropout
from jaxseq.data._bucketed import bucketed as bucketed
from jaxseq.data._loader import Batch as Batch
from jaxseq.data._loader import Loader as Loader
from jaxseq.data._loader import batches as batches
from jaxseq.data._packing import Packed as Packed
from jaxseq.data._packing import pack as pack
from jaxseq.data._packing import place as place
from jaxseq.data._packing import unpack as unpack
from jaxseq.data._padding import Padded as Padded
from jaxseq.data._padding import pad as pad
from jaxseq.data._padding import unpad as unpad
from jaxseq.data._prefetch import prefetch as prefetch
from jaxseq.data._series import Filled as Filled
from jaxseq.data._series import Normalizer as Normalizer
from jaxseq.data._series import Windows as Windows
from jaxseq.data._series import cyclic as cyclic
from jaxseq.data._series import fill_missing as fill_missing
from jaxseq.data._series import windows as windows
from jaxseq.data._splits import split as split
from jaxseq.data._splits import split_in_time as split_in_time
from jaxseq.data._splits import unique as unique
from jaxseq.data._streams import streams as streams
from jaxseq.data._vocabulary import Vocabulary as Vocabulary
from jaxseq.data._vocabulary import words as words
from jaxseq.data._wav import read_wav as read_wav

_register(__name__)
