"""Passwords that are long and still easy to guess (NIST SP 800-63B-4, 3.1.1.2; ASVS 5.0, 6.2.4 and 6.2.11)."""

import re
from collections.abc import Collection, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

COUNT: Final = 3000


def _most_common() -> list[str]:
    """Return zxcvbn's most common passwords, read as text: imported, its matchers take 9 MB, and its lists alone 3."""
    package = find_spec("zxcvbn")
    assert package is not None, "a dependency of this package"
    assert package.origin is not None, "a package of files"
    lists = Path(package.origin).with_name("frequency_lists.py").read_text()
    found = re.search(r'"passwords": "([^"]+)"', lists)
    assert found is not None, "zxcvbn has written its lists differently"
    return found[1].split(",", COUNT)[:COUNT]


MAX_WORDS = 3
MIN_WORD = 3
COMMON: frozenset[str] = frozenset(word for word in _most_common() if len(word) >= MIN_WORD)
LONGEST = max(map(len, COMMON))

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p")
_KEYBOARD = (*_ROWS, *(row[::-1] for row in _ROWS))
_SPELLED = str.maketrans("@4$5013!7", "aassoleit")  # p4$$w0rd
_BETWEEN_WORDS = re.compile(r"[^\w@$!]|_")
_BETWEEN_PARTS = re.compile(r"[\W_]+")
_REPEATED = re.compile(r"(.{1,7}?)\1+", re.DOTALL)


def is_common(password: str, context: Iterable[str] = ()) -> bool:
    """Whether the password is a short unit repeated, or at most three common words and sequences, with any digits.

    A word that is repeated counts once; case, punctuation and letters spelled as digits do not count. `context` are
    texts whose words are common for this user: the address, the name of the application.
    """
    folded = password.casefold()
    if _REPEATED.fullmatch(folded):
        return True
    text = _BETWEEN_WORDS.sub("", folded)
    return _is_guessable(text, text.translate(_SPELLED), {word for part in context for word in _words_of(part)})


def _words_of(text: str) -> Iterator[str]:
    folded = text.casefold()
    for word in (_BETWEEN_PARTS.sub("", folded.partition("@")[0]), *_BETWEEN_PARTS.split(folded)):
        if len(word) >= MIN_WORD:
            yield word


def _is_guessable(text: str, spelled: str, context: Collection[str]) -> bool:
    # words[i]: the fewest words that make up the text from i to its end. Digits are free, unless there are no letters.
    words = [MAX_WORDS + 1] * len(text) + [0]
    digits_are_free = any(character.isalpha() for character in text)
    for start in reversed(range(len(text))):
        if digits_are_free and not text[start].isalpha():
            words[start] = words[start + 1]
        for end in (*_ends_of_words(text, start, context), *_ends_of_words(spelled, start, context)):
            words[start] = min(words[start], 1 + words[end])
        for end in range(start + MIN_WORD, _end_of_sequence(text, start) + 1):
            words[start] = min(words[start], 1 + words[end])
    return bool(text) and words[0] <= MAX_WORDS


def _ends_of_words(text: str, start: int, context: Collection[str]) -> Iterator[int]:
    """Yield the end of each word that begins at `start`, and of each of its repetitions."""
    pieces = {text[start:end] for end in range(start + MIN_WORD, start + LONGEST + 1)}
    for word in (COMMON & pieces).union(word for word in context if text.startswith(word, start)):
        end = start
        while text.startswith(word, end):
            end += len(word)
            yield end


def _end_of_sequence(text: str, start: int) -> int:
    """Return the end of the longest sequence that begins at `start`: aaaa, abcd, 8901, 4321, qwerty."""
    ends = []
    for step in (-1, 0, 1):
        end = start + 1
        while end < len(text) and _follows(text[end - 1], text[end], step):
            end += 1
        ends.append(end)
    for row in _KEYBOARD:
        end = start + 1
        while end < len(text) and text[start : end + 1] in row:
            end += 1
        ends.append(end)
    return max(ends)


def _follows(one: str, other: str, step: int) -> bool:
    if one.isdecimal() and other.isdecimal():
        return (int(one) + step) % 10 == int(other)
    return ord(one) + step == ord(other)
