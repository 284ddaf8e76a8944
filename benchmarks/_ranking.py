"""Tables for ``bench_methods.py``, and a check of the ranking of the methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

#: Differences that are not significant, because two seeds may differ by as much.
TIE_PSNR, TIE_POROSITY = 0.5, 0.025
CLASSICAL = ("Gaussian", "total variation", "non-local means")
BLOCK_MATCHING = ("BM3D", "BM4D")
#: Pairs of methods, of which the first should be at least as good as the second; True
#: if this is expected only for independent noise.
EXPECTED = (
    ("supervised", "Noise2Noise", False),
    ("Noise2Noise", "Noise2Inverse", False),
    ("Noise2Inverse", "best classical", False),
    ("Noise2Inverse", "best block matching", False),
    ("Noise2Void", "best classical", True),
    ("Noise2Void", "best block matching", True),
    ("Neighbor2Neighbor", "best classical", True),
)
COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.1f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "porosity_error": ("porosity error", "{:+.1%}"),
    "pores_per_mm3_error": ("pores/mm³ error", "{:+.1%}"),
    "volume_histogram_distance": ("volumes", "{:.3f}"),
    "euler_error": ("Euler error", "{:+.2f}"),
    "dice": ("Dice", "{:.3f}"),
    "parameters": ("parameters", "{:,}"),
    "steps": ("steps", "{}"),
    "seconds": ("seconds", "{:.0f}"),
}


@dataclass(frozen=True)
class Verdict:
    """Comparison of a method with one that it should at least equal.

    Attributes
    ----------
    gain : float
        PSNR of the first minus that of the second, in dB.
    porosity : float
        Absolute porosity error of the first minus that of the second.
    """

    first: str
    second: str
    gain: float
    porosity: float

    @property
    def words(self) -> str:
        """Result in words; a loss of less than half a decibel is a tie."""
        if self.gain >= 0:
            return "as expected"
        if self.gain > -TIE_PSNR:
            return "tie"
        return f"**lower by {-self.gain:.1f} dB**"

    @property
    def porosity_words(self) -> str:
        """Difference in porosity error; less than 2.5 percentage points is a tie."""
        points = f"{100 * self.porosity:+.1f} points"
        return f"{points} (tie)" if abs(self.porosity) < TIE_POROSITY else points


def verdicts(rows: Sequence[Row], independent: bool) -> Iterator[Verdict]:
    """Compare the available rows of one case."""
    by_name = {str(row["method"]): row for row in rows}
    for name, kinds in (
        ("best classical", CLASSICAL),
        ("best block matching", BLOCK_MATCHING),
    ):
        found = [row for row in rows if str(row["method"]).startswith(kinds)]
        if found:
            by_name[name] = max(found, key=lambda row: float(row["psnr"]))
    for first, second, only_independent in EXPECTED:
        if first not in by_name or second not in by_name:
            continue
        if only_independent and not independent:
            continue
        a, b = by_name[first], by_name[second]
        shown = str(b["method"])
        yield Verdict(
            first,
            shown if shown == second else f"{second} ({shown})",
            a["psnr"] - b["psnr"],
            abs(a["porosity_error"]) - abs(b["porosity_error"]),
        )


def order_table(rows: Sequence[Row], warnings: Mapping[str, str]) -> str:
    """Markdown table of all comparisons, and the warnings about correlated noise."""
    lines = [
        "| case | expected | difference in PSNR | result "
        "| difference in absolute porosity error |",
        "|---|---|---|---|---|",
    ]
    for case in _cases(rows):
        lines += [
            f"| {case} | {found.first} ≥ {found.second} | {found.gain:+.1f} dB "
            f"| {found.words} | {found.porosity_words} |"
            for found in verdicts(_of(rows, case), "independent" in case)
        ]
    lines += [
        "",
        "Warnings shown before training with Noise2Void, and the gain in PSNR after "
        "training:",
        "",
    ]
    lines += [
        f"- {case}: "
        + (f'"{text}"' if text else "no warning.")
        + _gain(_of(rows, case))
        for case, text in warnings.items()
    ]
    return "\n".join(lines) + "\n"


def _gain(rows: Sequence[Row]) -> str:
    """State the gain of Noise2Void over the input, if it was run."""
    found = {row["method"]: row["psnr"] for row in rows}
    if "Noise2Void" not in found:
        return ""
    gain = found["Noise2Void"] - found["input"]
    if gain < 0:
        return f" Noise2Void loses {-gain:.1f} dB relative to the input."
    return f" Noise2Void gains {gain:.1f} dB over the input."


def table(rows: Sequence[Row], order: Sequence[str]) -> str:
    """Markdown tables, one for each phantom and noise; rows in the order of `order`."""
    lines: list[str] = []
    names = ("input", *CLASSICAL, *BLOCK_MATCHING, *order)

    def place(row: Row) -> int:
        method = str(row["method"])
        exact = [i for i, name in enumerate(names) if method == name]
        begins = (i for i, name in enumerate(names) if method.startswith(name))
        return exact[0] if exact else next(begins, len(names))

    for case in _cases(rows):
        head = ["", *(title for title, _ in COLUMNS.values())]
        lines += ["", f"### {case}", "", "| " + " | ".join(head) + " |"]
        lines.append("|" + "---|" * len(head))
        for row in sorted(_of(rows, case), key=place):
            cells = [
                "–" if row.get(key) is None else form.format(row[key])
                for key, (_, form) in COLUMNS.items()
            ]
            lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def _cases(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["case"]) for row in rows))


def _of(rows: Sequence[Row], case: str) -> list[Row]:
    return [row for row in rows if row["case"] == case]
