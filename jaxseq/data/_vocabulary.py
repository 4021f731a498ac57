"""Vocabularies: tokens to ids and back, for words or characters."""

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
    """Tokens and their ids: 0 is padding, 1 is the unknown token if there is one, then specials, then all others.

    `len` is V, the number of ids. `token in vocabulary` tells whether a token has an id. Vocabularies with the same ids
    are equal.

    Attributes:
      tokens: every token, in the order of the ids.
      unknown: the token whose id stands for tokens without an id. None: `encode` raises for such tokens.
      specials: the number of tokens at the front that are not text: padding, unknown and specials.

    Raises:
      TypeError, ValueError: a token is not a str, or occurs twice; `unknown` or `specials` does not match `tokens`.
    """

    tokens: tuple[str, ...]
    unknown: str | None = "<unk>"
    specials: int = 2

    def __post_init__(self):
        _check.sequence("tokens", self.tokens, "tokens")
        object.__setattr__(self, "tokens", tuple(self.tokens))
        _tokens("tokens", self.tokens)
        for token, count in Counter(self.tokens).most_common(1):
            if count > 1:
                raise ValueError(f"`tokens` must be distinct; got {token!r} {count} times")
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
        """Returns the vocabulary of a text, the most frequent token first; pass the training part only.

        Tokens with the same frequency keep the order of their first occurrence. A special that occurs in the text keeps
        its place at the front.

        Args:
          sequences: lists of tokens. A str is a sequence of characters, so split it first to get words (see `words`).
          size: the greatest V, specials included. None: no limit.
          min_count: rarer tokens are left out.
          padding: the token of id 0.
          unknown: the token of id 1, which stands for all tokens that are left out. None: `encode` raises for them.
          specials: further tokens that are not text, such as ("<start>", "<end>").

        Raises:
          TypeError, ValueError: an argument does not fit, or `size` has no room for the specials.

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
        _check.sequence("specials", specials, "tokens")
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

    def encode(self, tokens: Sequence[str] | np.ndarray, *, specials: str = "refuse") -> np.ndarray:
        """Returns the ids of the tokens, int32 `[T]`.

        Args:
          tokens: a list of tokens; or a str if the vocabulary is one of characters.
          specials: how to encode a token that is spelled like the padding or a special. "refuse": raise an error, since
            the spelling may be an accident of the text. "read": encode it as that special; use this if you put it
            there: `encode([*text, "<end>"], specials="read")`. "text": encode it as text, where it has no id of its
            own. The spelling of `unknown` always encodes as the unknown token.

        Raises:
          TypeError: `tokens` is a str and the vocabulary has words, or `tokens` holds something other than text.
          ValueError: a token is spelled like a special; a token has no id, and the vocabulary has no `unknown`.

        >>> vocabulary = Vocabulary.build([["to", "be"]], specials=("<end>",))
        >>> vocabulary.encode(["to", "be", "<end>"], specials="read").tolist()
        [3, 4, 2]
        >>> vocabulary.encode(["to", "<end>"], specials="text").tolist()
        [3, 1]
        """
        check.one_of("specials", specials, ("refuse", "read", "text"))
        if not isinstance(tokens, str):
            _check.sequence("tokens", tokens, "tokens")
        elif len(self._longest) > 1:
            raise TypeError(
                f"`tokens` must be a list of tokens, since the vocabulary has words such as {self._longest!r}; got the "
                f"str {tokens[:40]!r}. Split it as for the vocabulary, for example with words(text)"
            )
        _tokens("tokens", tokens)
        known = self._ids if specials == "read" else self._ids_of_text
        unknown = [token for token in tokens if token not in known]
        for token in unknown if specials == "refuse" else ():
            if token in self._ids:
                raise ValueError(
                    f"`tokens` hold {token!r}, which is spelled like a special of the vocabulary. If you put it there, "
                    "pass specials='read'; if it is part of the text, pass specials='text'"
                )
        for token in unknown if self.unknown is None else ():
            raise ValueError(f"`tokens` hold {token!r}, which has no id, and the vocabulary has no unknown token")
        return np.array([known.get(token, 1) for token in tokens], np.int32)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Returns the tokens of the ids `[T]`, including padding and specials.

        Raises:
          TypeError, ValueError: `ids` is not integers `[T]`, or holds an id that is not from 0 to V - 1.

        >>> Vocabulary.build(["abba"], unknown=None).decode([2, 1, 0])
        ['b', 'a', '<pad>']
        """
        ids = _check.ids("ids", ids)
        for wrong in ids[(ids < 0) | (ids >= len(self))][:1]:
            hint = "; `decoding` writes -1 after the end of a row; leave it out, ids[ids >= 0]" if wrong == -1 else ""
            raise ValueError(f"`ids` must be from 0 to {len(self) - 1}, for V = {len(self)}; got {wrong}{hint}")
        return [self.tokens[i] for i in ids]

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold, for example in a checkpoint; `from_dict` reads it."""
        return {"tokens": list(self.tokens), "unknown": self.unknown, "specials": self.specials}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Vocabulary":
        """Returns the vocabulary of a dict from `to_dict`.

        Raises:
          TypeError, ValueError: `stored` is not such a dict.
        """
        if not isinstance(stored, dict) or set(stored) != {"tokens", "unknown", "specials"}:
            raise ValueError("`stored` must be what Vocabulary.to_dict returned, with tokens, unknown and specials")
        return cls(stored["tokens"], stored["unknown"], stored["specials"])

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary to a file as JSON in UTF-8, one token per line."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
        check.path("path", path).write_bytes(text.encode("utf-8", "surrogatepass"))  # a token may be a lone surrogate

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Returns the vocabulary that `save` wrote, with exactly the same tokens.

        Raises:
          OSError: there is no such file.
          ValueError: the file was not written by `save`, or is damaged.
        """
        content = check.path("path", path).read_bytes()
        try:
            return cls.from_dict(json.loads(content.decode("utf-8", "surrogatepass")))
        except (ValueError, TypeError, RecursionError) as error:
            reason = "its JSON is nested too deep" if isinstance(error, RecursionError) else error
            raise ValueError(f"`path` must be a whole file of Vocabulary.save; {path} is not: {reason}") from error

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
        """The ids of tokens that may occur in a text: all tokens but the specials; the unknown token is included."""
        front = self.tokens[: self.specials]
        return {token: number for token, number in self._ids.items() if token not in front or token == self.unknown}

    @functools.cached_property
    def _longest(self):
        """The longest token of text; one character if it is a vocabulary of characters."""
        return max(self.tokens[self.specials :], key=len, default="")


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case, for a language that writes spaces between words.

    A token is a run of letters with their accents and vowel signs, including apostrophes between them (don't, l'été); a
    run of digits; or one of ! and ?. All else is dropped. The text is first brought to Unicode's composed form (NFC),
    and ’ becomes '.

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
    """Returns the pattern of a token. Python's letter classes lack combining marks, which Hindi for example needs."""
    marks = "".join(mark for mark in map(chr, range(sys.maxunicode)) if unicodedata.category(mark)[0] == "M")
    letters = rf"[^\W\d_]+(?:[{marks}]+[^\W\d_]*)*"
    return re.compile(rf"{letters}(?:'{letters})*|\d+|[!?]")


def _tokens(name, tokens):
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"`{name}` must hold tokens of text; got {token!r}")
    return tokens
