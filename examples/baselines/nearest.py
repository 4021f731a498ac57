"""Translations by the most similar verse."""

import sacrebleu
from sklearn.feature_extraction.text import TfidfVectorizer

from examples.data.bible import Verses


def translate(training: Verses, validation: Verses, sources: list[str]) -> list[str]:
    """Returns the translation of the verse to train on whose source is most alike, by the cosine of TF-IDF.

    What is counted, words, pairs of words or pieces of words, is chosen on the validation part.
    """

    def find(sources, **ngrams):
        vectorizer = TfidfVectorizer(sublinear_tf=True, **ngrams)
        known = vectorizer.fit_transform(training.sources)
        rows = (vectorizer.transform(sources) @ known.T).toarray().argmax(axis=1)
        return [training.targets[row] for row in rows]

    def score(ngrams):
        return sacrebleu.corpus_bleu(find(validation.sources, **ngrams), [validation.targets]).score

    ways = ({}, {"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)})
    return find(sources, **max(ways, key=score))
