"""Ready models: a layer that reads sequences, with embeddings, pooling and heads around it."""

from jaxseq.nn.models._autoregressive import AutoregressiveForecaster as AutoregressiveForecaster
from jaxseq.nn.models._classifier import SequenceClassifier as SequenceClassifier
from jaxseq.nn.models._crf import CRF as CRF
from jaxseq.nn.models._ctc_recognizer import CTCRecognizer as CTCRecognizer
from jaxseq.nn.models._forecaster import Forecaster as Forecaster
from jaxseq.nn.models._heads import Gaussian as Gaussian
from jaxseq.nn.models._heads import Head as Head
from jaxseq.nn.models._heads import Point as Point
from jaxseq.nn.models._heads import Quantiles as Quantiles
from jaxseq.nn.models._language_model import LanguageCarry as LanguageCarry
from jaxseq.nn.models._language_model import LanguageModel as LanguageModel
from jaxseq.nn.models._ngrams import NGrams as NGrams
from jaxseq.nn.models._pooling import AttentionPool as AttentionPool
from jaxseq.nn.models._pooling import attention_pool as attention_pool
from jaxseq.nn.models._pooling import ends_pool as ends_pool
from jaxseq.nn.models._pooling import last_pool as last_pool
from jaxseq.nn.models._pooling import max_pool as max_pool
from jaxseq.nn.models._pooling import mean_max_pool as mean_max_pool
from jaxseq.nn.models._pooling import mean_pool as mean_pool
from jaxseq.nn.models._streams import PooledCarry as PooledCarry
from jaxseq.nn.models._tagger import SequenceTagger as SequenceTagger
from jaxseq.nn.models._text_cnn import TextCNN as TextCNN
