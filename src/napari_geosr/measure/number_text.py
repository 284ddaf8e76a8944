"""Numbers, fractions, ranges and differences as text for users."""

from __future__ import annotations

import math

#: Text for a missing value.
NOTHING = "–"
#: Unit of differences between percentages.
POINTS = "percentage points"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POWERS = {1: "", 2: "²", 3: "³"}
#: Absolute change, in per cent, at and above which only "> 999 %" or "< −999 %" is
#: shown.
_MAX_CHANGE = 999.5


def number_text(value: float, *, whole: bool = True) -> str:
    """Format a number to three significant digits; integers below a million are exact.

    Parameters
    ----------
    whole : bool
        Whether integers are shown without decimals. Set it to False next to numbers
        that are not integers: ``18.0`` next to ``17.5``.
    """
    if not math.isfinite(value):
        return NOTHING
    if value < 0:
        return f"\N{MINUS SIGN}{number_text(-value, whole=whole)}"
    if float(value).is_integer() and value < 10**6 and (whole or not value):
        return f"{int(value):,}".replace(",", "\u202f")
    if not 1e-3 <= value < 10**6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    if value >= 1000:
        rounded = round(value, 2 - math.floor(math.log10(abs(value))))
        return f"{int(rounded):,}".replace(",", "\u202f")
    text = f"{value:#.3g}"
    return text.rstrip(".")


def percent_text(fraction: float) -> str:
    """Format a fraction as a percentage with three significant digits."""
    percent = 100 * fraction
    return f"{percent:#.3g}".rstrip(".") + " %" if percent else "0 %"


def points_text(fraction: float) -> str:
    """Format a difference between percentages, or their standard deviation.

    Examples
    --------
    >>> points_text(0.0282)
    '2.82 percentage points'
    """
    return percent_text(fraction).removesuffix("%") + POINTS


def rough_percent(fraction: float) -> str:
    """Format an estimated fraction as a percentage with two significant digits."""
    percent = 100 * fraction
    return f"{percent:.0f} %" if percent >= 99.5 else f"{percent:.2g} %"


def percent_range_text(ends: tuple[float, float]) -> str:
    """Format a range of fractions as percentages."""
    return f"{range_text(ends, 100)} %"


def range_text(ends: tuple[float, float], times: float = 1.0) -> str:
    """Format both ends of a range with enough digits to distinguish them."""
    low, high = (times * end for end in ends)
    if times == 1.0 and (low == high or min(low, high) >= 1000):
        return f"{number_text(low)} to {number_text(high)}"
    width = high - low
    digits = 1 if width <= 0 else min(4, max(0, 1 - math.floor(math.log10(width))))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def signed_text(value: float, digits: int) -> str:
    """Format a difference with its sign; no sign if it rounds to zero.

    Examples
    --------
    >>> signed_text(8.15, 1), signed_text(-0.01, 1)
    ('+8.2', '0.0')
    """
    text = f"{value:+.{digits}f}"
    if not float(text):
        return text[1:]
    return text.replace("-", "\N{MINUS SIGN}")


def change_in_percent(before: float | None, after: float | None) -> float | None:
    """Return the relative change; None if a value is unknown or `before` is zero."""
    if before is None or after is None or not before:
        return None
    return 100 * (after - before) / abs(before)


def difference_text(before: float | None, after: float | None) -> str:
    """Format the relative change from `before` to `after`, signed.

    For a change of more than 999 %, only this limit is shown.

    Examples
    --------
    >>> difference_text(2.0, 3.0), difference_text(2.0, 140.0)
    ('+50.0 %', '> 999 %')
    """
    change = change_in_percent(before, after)
    if change is None:
        return NOTHING
    if abs(change) >= _MAX_CHANGE:
        return "> 999 %" if change > 0 else "< \N{MINUS SIGN}999 %"
    return f"{signed_text(change, 0 if abs(change) >= 99.5 else 1)} %"


def unit_text(length: str, power: int) -> str:
    """Format a unit of length raised to a power, as in files: ``µm³``, ``1/µm``."""
    text = f"{length}{_POWERS[abs(power)]}"
    return f"1/{text}" if power < 0 else text
