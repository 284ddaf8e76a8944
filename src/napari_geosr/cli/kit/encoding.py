"""Output to streams and terminals that cannot encode every character."""

from __future__ import annotations

import codecs
import locale
import os
import re
import sys
from io import TextIOWrapper
from pathlib import Path

#: Name of the error handler of the output streams.
_PLAIN = "napari-geosr-plain"
#: ASCII replacements for characters in numbers, units and sentences.
_REPLACEMENTS = {
    "\N{NARROW NO-BREAK SPACE}": " ",
    "\N{NO-BREAK SPACE}": " ",
    "\N{THIN SPACE}": " ",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{DIVISION SIGN}": "/",
    "\N{MIDDLE DOT}": "-",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{ALMOST EQUAL TO}": "~",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{DEGREE SIGN}": " deg",
}
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def prepare_streams() -> None:
    """Make standard output and standard error replace characters they cannot encode.

    Closed streams are replaced, so that other code need not check for them.
    """
    codecs.register_error(_PLAIN, _write_plain)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            null = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, null)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            encoding = "ascii" if _is_ascii_terminal(stream) else None
            stream.reconfigure(encoding=encoding, errors=_PLAIN)


def _is_ascii_terminal(stream: TextIOWrapper) -> bool:
    """Return whether a terminal uses the C locale, where Python still writes UTF-8."""
    asked = "PYTHONUTF8" in os.environ or "PYTHONIOENCODING" in os.environ
    name = locale.setlocale(locale.LC_CTYPE)
    return name in ("C", "POSIX") and not asked and stream.isatty()


def plain(letters: str, after: str = "") -> str:
    r"""Convert characters to similar ASCII characters or to escapes.

    Escapes are ``\xff`` for an undecodable byte and ``\u0394`` for a letter.

    Parameters
    ----------
    letters : str
    after : str
        The text that follows; it distinguishes the unit ``µm`` from file names.

    Examples
    --------
    >>> plain("1.2\N{MULTIPLICATION SIGN}10\N{SUPERSCRIPT FIVE}")
    '1.2x10^5'
    """
    if letters[-1:] in ("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}") and re.match(
        r"m(?![a-z.])", after
    ):
        return plain(letters[:-1]) + "u"
    powers = re.sub(
        "[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"^{found[0].translate(_SUPERSCRIPTS)}", letters
    )
    return "".join(map(_plain_letter, powers))


def _plain_letter(letter: str) -> str:
    if letter in _REPLACEMENTS:
        return _REPLACEMENTS[letter]
    # Python decodes a byte that is not UTF-8 as the character 0xDC00 + byte.
    if 0xDC80 <= ord(letter) <= 0xDCFF:
        return rf"\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("ascii", "backslashreplace").decode("ascii")


def _write_plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle encoding errors of the output streams."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters, after = error.object[error.start : error.end], error.object[error.end :]
    return plain(letters, after), error.end
