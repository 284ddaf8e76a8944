"""Suggest corrections for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

#: Minimum number of letters of a mistyped word for which words that begin with it are
#: suggested.
_LEAST_LETTERS = 2
#: Maximum number of suggested words.
_MOST_WORDS = 3


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that suggests the closest of the known words.

    Parameters
    ----------
    word : str
        The mistyped word.
    known : iterable of str
        Valid words.

    Returns
    -------
    str
        `` Did you mean 'otsu'?`` with a leading space, to append to a sentence; empty
        if there is no suggestion. If no word is similar, up to three words that begin
        with `word` are suggested.

    Examples
    --------
    >>> did_you_mean("foam-denois", ["foam-denoise", "ct-denoise"])
    " Did you mean 'foam-denoise'?"
    >>> did_you_mean("ct", ["ct-denoise", "tv"])
    " Did you mean 'ct-denoise'?"
    >>> did_you_mean("bones", ["tv"])
    ''
    """
    words = list(known)
    close = get_close_matches(word, words, n=1)
    if not close and len(word) >= _LEAST_LETTERS:
        close = [name for name in words if name.lower().startswith(word.lower())]
        close = close[:_MOST_WORDS]
    if not close:
        return ""
    *others, last = map(repr, close)
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
