"""Suggest corrections for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that suggests the closest of the known words.

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
        if nothing is close.

    Examples
    --------
    >>> did_you_mean("foam-denois", ["foam-denoise", "ct-denoise"])
    " Did you mean 'foam-denoise'?"
    >>> did_you_mean("bones", ["tv"])
    ''
    """
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
