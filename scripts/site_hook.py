"""Prevent line breaks within quantities and short code on the documentation site.

In narrow columns and on phones, browsers would otherwise break lines between a number
and its unit, and after the hyphens of options.
"""

from __future__ import annotations

import re
from typing import Any

#: Tags and code blocks; the text of code is copied and must not change.
_KEPT = re.compile(r"(<pre.*?</pre>|<code.*?</code>|<[^>]+>)", re.DOTALL)
_NUMBER_AND_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|dB|[nµm]m|[µm]?m[²³]|[kMGT]B|ms|s|min|h|Wh|kW)\b|%)"
)
#: Inline code that is short enough for one line on a phone.
_SHORT_CODE = re.compile(r"<code>([^<]{1,28})</code>")


def with_units(html: str) -> str:
    """Insert no-break spaces between numbers and units, except in code.

    Examples
    --------
    >>> with_units("<td>3 (5 %)</td>").replace(chr(160), "~")
    '<td>3 (5~%)</td>'
    >>> with_units("<code>5 %</code>")
    '<code>5 %</code>'
    """
    parts = _KEPT.split(html)
    parts[::2] = [
        _NUMBER_AND_UNIT.sub("\N{NO-BREAK SPACE}", text) for text in parts[::2]
    ]
    return "".join(parts)


def with_whole_names(html: str) -> str:
    """Mark short code, in which lines must not break.

    Examples
    --------
    >>> with_whole_names("<p><code>--model</code></p>")
    '<p><code class="short">--model</code></p>'
    """
    return _SHORT_CODE.sub(r'<code class="short">\1</code>', html)


def on_page_content(html: str, **_others: Any) -> str:
    """Change the HTML of a page; called by MkDocs."""
    return with_whole_names(with_units(html))
