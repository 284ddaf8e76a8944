"""Guesses at what a mistyped name was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names the closest of the known words.

    Parameters
    ----------
    word : str
        What was typed.
    known : iterable of str
        What would have been understood.

    Returns
    -------
    str
        `` Did you mean 'otsu'?``, with a space before it, to put behind a sentence;
        empty if nothing is close.

    Examples
    --------
    >>> did_you_mean("foam-denois", ["foam-denoise", "ct-denoise"])
    " Did you mean 'foam-denoise'?"
    >>> did_you_mean("bones", ["tv"])
    ''
    """
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
