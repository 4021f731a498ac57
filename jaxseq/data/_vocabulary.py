"""Vocabularies: tokens to ids and back, for words and for characters."""

import dataclasses
import functools
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data import _check


@dataclasses.dataclass(frozen=True, repr=False)
class Vocabulary:
    """Tokens and their ids: the padding is 0, the unknown 1, if there is one, then the specials, then the others.

    `len` gives V, the number of ids, and `token in vocabulary` tells whether a token has one. Two vocabularies of the
    same ids are equal.

    Attributes:
      tokens: every token, in the order of the ids.
      unknown: what a token without an id is read as; None: it is refused.
      specials: how many tokens at the front are no text: padding, unknown and specials.

    Raises:
      TypeError, ValueError: tokens that are no text, or come twice.
    """

    tokens: tuple[str, ...]
    unknown: str | None = "<unk>"
    specials: int = 2

    def __post_init__(self):
        _check.many("tokens", self.tokens, "tokens")
        object.__setattr__(self, "tokens", tuple(self.tokens))
        _tokens("tokens", self.tokens)
        for token, count in Counter(self.tokens).most_common(1):
            if count > 1:
                raise ValueError(f"`tokens` must differ; got {token!r} {count} times")
        _tokens("unknown", () if self.unknown is None else (self.unknown,))
        least = 1 if self.unknown is None else 2
        if not least <= check.natural("specials", self.specials) <= len(self.tokens):
            raise ValueError(f"`specials` must be from {least} to the {len(self.tokens)} tokens; got {self.specials}")
        if self.unknown is not None and self.unknown != self.tokens[1]:
            raise ValueError(f"`unknown` must be the token of id 1, {self.tokens[1]!r}; got {self.unknown!r}")

    @classmethod
    def build(
        cls,
        sequences: Iterable[Iterable[str]],
        *,
        size: int | None = None,
        min_count: int = 1,
        padding: str = "<pad>",
        unknown: str | None = "<unk>",
        specials: Sequence[str] = (),
    ) -> "Vocabulary":
        """Returns the vocabulary of a text, of its training part only: the most frequent token first.

        Tokens of one frequency come in the order in which the text has them first. A special that stands in the text
        keeps its place at the front.

        Args:
          sequences: lists of tokens; a str is a sequence of characters, so for words split it first (see `words`).
          size: V at most, the specials included; None: no limit.
          min_count: tokens that are rarer are left out.
          padding: the token of id 0.
          unknown: the token of id 1, which others are read as; None: there is none, and they are refused.
          specials: more tokens that are no text, such as ("<start>", "<end>").

        Raises:
          TypeError, ValueError: an argument does not fit, `size` leaves no room for the specials.

        >>> vocabulary = Vocabulary.build([["to", "be", "or", "not", "to", "be"]], size=4)
        >>> vocabulary.tokens, vocabulary.encode(["to", "be", "sure"]).tolist()
        (('<pad>', '<unk>', 'to', 'be'), [2, 3, 1])
        >>> Vocabulary.build(["abba"], unknown=None).encode("baa").tolist()
        [2, 1, 1]
        """
        if isinstance(sequences, str) or not isinstance(sequences, Iterable):
            raise TypeError(
                f"`sequences` must be lists of tokens; got {type(sequences).__name__}. For the characters of one text: "
                "[text]"
            )
        _tokens("padding", (padding,))
        _tokens("unknown", () if unknown is None else (unknown,))
        _check.many("specials", specials, "tokens")
        front = (padding, *(() if unknown is None else (unknown,)), *_tokens("specials", specials))
        min_count = check.positive_int("min_count", min_count)
        if size is not None and check.positive_int("size", size) < len(front):
            raise ValueError(f"`size` must have room for the specials {front}; got {size}")
        counts = Counter()
        for i, sequence in enumerate(sequences):
            if not isinstance(sequence, Iterable):
                raise TypeError(f"`sequences[{i}]` must be a list of tokens; got {sequence!r}")
            counts.update(_tokens(f"sequences[{i}]", tuple(sequence)))
        kept = [token for token, count in counts.most_common() if count >= min_count and token not in front]
        room = None if size is None else size - len(front)
        return cls((*front, *kept[:room]), unknown, len(front))

    def encode(self, tokens: Sequence[str], *, specials: str = "refuse") -> np.ndarray:
        """Returns the ids of the tokens, int32 `[T]`.

        Args:
          tokens: a list of tokens; a str where the vocabulary is one of characters.
          specials: what a token is that is spelled like the padding or a special. "refuse": an error, for in a text it
            came by chance. "read": that special, as you put it there: `encode([*text, "<end>"], specials="read")`.
            "text": a word like any other, without an id of its own. The spelling of `unknown` is always the unknown.

        Raises:
          TypeError: a str for a vocabulary of words, or something that is no text.
          ValueError: a token is spelled like a special; a token has no id, and there is no `unknown`.

        >>> vocabulary = Vocabulary.build([["to", "be"]], specials=("<end>",))
        >>> vocabulary.encode(["to", "be", "<end>"], specials="read").tolist()
        [3, 4, 2]
        >>> vocabulary.encode(["to", "<end>"], specials="text").tolist()
        [3, 1]
        """
        check.one_of("specials", specials, ("refuse", "read", "text"))
        if not isinstance(tokens, str):
            _check.many("tokens", tokens, "tokens")
        elif len(self._longest) > 1:
            raise TypeError(
                f"`tokens` must be a list, for a vocabulary with words such as {self._longest!r}; got the str "
                f"{tokens[:40]!r}. Split it as you did for the vocabulary, with words(text)?"
            )
        _tokens("tokens", tokens)
        known = self._ids if specials == "read" else self._ids_of_text
        unknown = [token for token in tokens if token not in known]
        for token in unknown if specials == "refuse" else ():
            if token in self._ids:
                raise ValueError(
                    f"`tokens` hold {token!r}, which is a special of the vocabulary. If you put it there, pass "
                    "specials='read'; if it stands in the text, specials='text'"
                )
        for token in unknown if self.unknown is None else ():
            raise ValueError(f"{token!r} is not in the vocabulary, which has no unknown token")
        return np.array([known.get(token, 1) for token in tokens], np.int32)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Returns the tokens of the ids `[T]`, padding and specials too.

        Raises:
          TypeError, ValueError: `ids` are not integers `[T]`, or one is not below V.

        >>> Vocabulary.build(["abba"], unknown=None).decode([2, 1, 0])
        ['b', 'a', '<pad>']
        """
        ids = _check.ids("ids", ids)
        for wrong in ids[(ids < 0) | (ids >= len(self))][:1]:
            hint = "; what `decoding` writes has -1 after a row's end, cut it at its length" if wrong == -1 else ""
            raise ValueError(f"`ids` must be from 0 to {len(self) - 1}, for V = {len(self)}; got {wrong}{hint}")
        return [self.tokens[i] for i in ids]

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold, and `from_dict` takes: for a checkpoint."""
        return {"tokens": list(self.tokens), "unknown": self.unknown, "specials": self.specials}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Vocabulary":
        """Returns the vocabulary that `to_dict` stored.

        Raises:
          TypeError, ValueError: it is none.
        """
        if not isinstance(stored, dict) or set(stored) != {"tokens", "unknown", "specials"}:
            raise ValueError("`stored` must be what Vocabulary.to_dict returned, with tokens, unknown and specials")
        return cls(stored["tokens"], stored["unknown"], stored["specials"])

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary as JSON in UTF-8, a token a line."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
        check.path("path", path).write_bytes(text.encode("utf-8", "surrogatepass"))  # half a pair is a character too

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Returns the vocabulary that `save` wrote, the same to the character.

        Raises:
          OSError: there is no such file.
          ValueError: the file is not one that `save` wrote, or is damaged.
        """
        content = check.path("path", path).read_bytes()
        try:
            return cls.from_dict(json.loads(content.decode("utf-8", "surrogatepass")))
        except (ValueError, TypeError, RecursionError) as error:
            reason = "its JSON is nested too deep" if isinstance(error, RecursionError) else error
            raise ValueError(f"`path` must be a file of Vocabulary.save, whole; {path} is not: {reason}") from error

    def __len__(self):
        return len(self.tokens)

    def __contains__(self, token):
        return token in self._ids

    def __repr__(self):
        return f"Vocabulary(V={len(self)}, tokens={self.tokens[:5]!r}...)"

    @functools.cached_property
    def _ids(self):
        return {token: number for number, token in enumerate(self.tokens)}

    @functools.cached_property
    def _ids_of_text(self):
        """The ids of the tokens that may stand in a text: the specials have none, but for the unknown."""
        front = self.tokens[: self.specials]
        return {token: number for token, number in self._ids.items() if token not in front or token == self.unknown}

    @functools.cached_property
    def _longest(self):
        """The longest token of text: one character where it is a vocabulary of characters."""
        return max(self.tokens[self.specials :], key=len, default="")


def words(text: str) -> list[str]:
    """Returns the words of a text in a language that puts spaces between them, in lower case.

    A token is a run of letters with their accents and vowel signs, apostrophes inside it included (don't, l'été); a run
    of digits; or one of ! and ?. The rest is dropped. Text is brought to Unicode's composed form (NFC), and ’ to '.

    Raises:
      TypeError: `text` is not a str.

    >>> words("Don't panic: it’s 42, n'est-ce pas?")
    ["don't", 'panic', "it's", '42', "n'est", 'ce', 'pas', '?']
    """
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a str; got {type(text).__name__}")
    return _word().findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))


@functools.cache
def _word():
    """The pattern of a token; Python's classes of letters leave out combining marks, which Hindi is written with."""
    marks = "".join(mark for mark in map(chr, range(sys.maxunicode)) if unicodedata.category(mark)[0] == "M")
    letters = rf"[^\W\d_]+(?:[{marks}]+[^\W\d_]*)*"
    return re.compile(rf"{letters}(?:'{letters})*|\d+|[!?]")


def _tokens(name, tokens):
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"`{name}` must hold tokens of text; got {token!r}")
    return tokens
