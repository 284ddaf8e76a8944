"""Positions at which the texts of a dock may be broken into lines."""

from __future__ import annotations

import re

#: Positions within a name at which a line may be broken.
_JOINT = re.compile(r"(?<=\w)[_/-](?=\w)|(?<=[^\W\d])\.(?=\w)|(?<=\d)\.(?=[^\W\d])")
#: Spaces at which no line may be broken: before a unit, and around ± and ×.
_IN_NUMBER = re.compile(
    r"(?<=\d) (?=%|×|(?:dB|[kMGT]?B|[nµm]?m|m?s|min|h|[km]?Wh|[km]?g)\b)"
    r"|(?<=\d) (?=(?:voxels?|patches)\b)"
    r"| (?=±)|(?<=±) |(?<=×) (?=\d)"
)


def keep_numbers_whole(text: str) -> str:
    """Return the text without line breaks between numbers, signs and units."""
    return _IN_NUMBER.sub("\N{NO-BREAK SPACE}", text)


def break_names(text: str) -> str:
    """Return a text in which lines may be broken at ``_-./`` within names."""
    return _JOINT.sub("\\g<0>\N{ZERO WIDTH SPACE}", text)
