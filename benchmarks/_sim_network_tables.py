"""Rows and tables of the benchmark ``bench_sim_network.py``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from _document import merged_tables, replace_section, section, typeset
from bench_sim import KINDS, SNRS, place_of
from napari_geosr.physics.illumination.simulation import STRUCTURES

#: Numbers of steps after which the network is evaluated.
STEPS = (200, 500, 1000)
#: Largest number of iterations of Richardson–Lucy that the program accepts.
MOST = 1000
SEEDS = (0, 1, 2)
#: Time in seconds from which no decimals are written.
_WHOLE_SECONDS = 10
#: Smallest difference in PSNR (dB) that counts in the verdict.
MARGIN = 0.5

#: Cases (illumination, structure, SNR) of the curves of Richardson–Lucy.
CURVES = (
    *itertools.product(("linear",), STRUCTURES, (5, 20, 50)),
    *itertools.product(("nonlinear",), STRUCTURES, (5, 20)),
)
#: Numbers of iterations after which Richardson–Lucy is evaluated, for the curves.
JUDGED = (100, 300, MOST)

#: Illumination, structure, SNR and seed.
Case = tuple[str, str, int, int]
#: Correlation, PSNR, resolution (or None), seconds, and numbers of steps.
Figures = Mapping[str, float | None]


class Row(NamedTuple):
    """One line of the file of rows."""

    case: Case
    part: str
    method: str
    figures: Figures


def read(path: Path) -> list[Row]:
    """Return the rows of an earlier run."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8").splitlines():
        values = json.loads(line)
        kind, structure, snr, seed = values["case"]
        case = str(kind), str(structure), int(snr), int(seed)
        rows.append(Row(case, values["part"], values["method"], values["figures"]))
    return rows


class Table:
    """Rows of a file, as means over the seeds."""

    def __init__(self, rows: Iterable[Row]) -> None:
        #: Figures by case without seed, method and seed.
        self.found: dict[tuple[str, str, int], dict[str, dict[int, Figures]]] = {}
        for row in rows:
            methods = self.found.setdefault(row.case[:3], {})
            methods.setdefault(row.method, {})[row.case[3]] = row.figures

    def cases(self, method: str) -> list[tuple[str, str, int]]:
        """Cases in which a method has been run."""
        grid = itertools.product(KINDS, STRUCTURES, SNRS)
        return [key for key in grid if method in self.found.get(key, ())]

    def mean(
        self,
        key: tuple[str, str, int],
        method: str,
        what: str,
        seeds: Iterable[int] = SEEDS,
    ) -> float:
        """Return the mean over the seeds; NaN for a method that was not run."""
        rows = self.found[key].get(method, {})
        found = [rows[seed].get(what) for seed in seeds if seed in rows]
        values = [value for value in found if value is not None]
        return float(np.mean(values)) if values else np.nan

    def seeds(self, key: tuple[str, str, int], method: str) -> list[int]:
        return sorted(self.found[key].get(method, ()))


def psnr_table(table: Table) -> str:
    """Compare the network that starts from Richardson–Lucy with Richardson–Lucy."""
    lines = [
        "| illumination | structure | SNR | seeds | Wiener-SIM | joint Richardson–Lucy "
        "| network `refine`, at most 200 / 500 / 1000 steps | steps chosen "
        "| network minus Richardson–Lucy | network better? |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in table.cases(f"ours-{STEPS[-1]}"):
        rl = table.mean(key, "joint-rl", "psnr")
        ours = [table.mean(key, f"ours-{n}", "psnr") for n in STEPS]
        ours = [v for v in ours if np.isfinite(v)]
        gain = ours[-1] - rl
        verdict = "no" if abs(gain) < MARGIN else "**yes**" if gain > 0 else "**worse**"
        last = table.found[key][f"ours-{STEPS[-1]}"]
        chosen = sorted({int(figures["steps"] or 0) for figures in last.values()})
        lines.append(
            f"| {' | '.join(map(str, key))} | {len(last)} "
            f"| {table.mean(key, 'wiener', 'psnr'):.1f} | {rl:.1f} "
            f"| {' / '.join(f'{v:.1f}' for v in ours)} "
            f"| {', '.join(map(str, chosen))} | {gain:+.2f} dB | {verdict} |"
        )
    return "\n".join(lines)


def method_table(table: Table) -> str:
    """Correlation, resolution in camera pixels, and seconds of every method."""
    methods = {
        "widefield": "Widefield",
        "wiener": "Wiener-SIM",
        "joint-rl": "joint Richardson–Lucy",
        f"ours-{STEPS[0]}": f"network `refine`, at most {STEPS[0]} steps",
    }
    lines = [
        f"| illumination | structure | SNR | {' | '.join(methods.values())} |",
        "|---|---|---|" + "---|" * len(methods),
    ]
    for key in table.cases(f"ours-{STEPS[0]}"):
        cells = [
            f"{table.mean(key, name, 'ncc'):.3f} / {table.mean(key, name, 'frc'):.2f} "
            f"px / {table.mean(key, name, 'seconds'):.1f} s"
            for name in methods
        ]
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def published_table(table: Table) -> str:
    """Return a table of the published recipe and Richardson–Lucy in equal time.

    All columns are for the seeds for which the recipe was run.
    """
    columns = {
        "joint-rl": "joint Richardson–Lucy",
        "joint-rl-equal": "joint Richardson–Lucy, as long as 200 steps, at most "
        f"{MOST} iterations",
        "published-equal": "`published`, same computing time as Richardson–Lucy",
        **{f"published-{n}": f"`published`, {n} steps" for n in STEPS},
    }
    lines = [
        f"| illumination | structure | SNR | {' | '.join(columns.values())} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for key in table.cases(f"published-{STEPS[0]}"):
        seeds = table.seeds(key, f"published-{STEPS[0]}")
        cells = []
        for name in columns:
            is_run = name in table.found[key]
            cells.append(_cell(table, key, name, seeds) if is_run else "not run")
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(
    table: Table, key: tuple[str, str, int], name: str, seeds: Iterable[int]
) -> str:
    """PSNR, correlation, resolution in camera pixels, and seconds of a method."""
    psnr, ncc, size, seconds = (
        table.mean(key, name, what, seeds) for what in ("psnr", "ncc", "frc", "seconds")
    )
    period = f"{size:.1f} px" if np.isfinite(size) else "no resolution"
    digits = 0 if seconds >= _WHOLE_SECONDS else 1
    return f"{psnr:.1f} dB / {ncc:.2f} / {period} / {seconds:.{digits}f} s"


def curve_table(table: Table) -> str:
    """Return the table of Richardson–Lucy by number of iterations."""
    lines = [
        f"| illumination | structure | SNR | {' | '.join(map(str, JUDGED))} "
        "| suggested |",
        "|---|---|---|" + "---|" * (len(JUDGED) + 1),
    ]
    for key in CURVES:
        if "held-out" not in table.found.get(key, ()):
            continue
        cells = [f"{table.mean(key, f'after-{n}', 'psnr'):.1f}" for n in JUDGED]
        cells.append(f"{table.mean(key, 'held-out', 'iterations'):.0f}")
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


#: Function of each table of the document.
_TABLES: dict[str, Callable[[Table], str]] = {
    "network psnr": psnr_table,
    "network methods": method_table,
    "network published": published_table,
    "network iterations": curve_table,
}


def write_tables(table: Table, document: Path | None) -> None:
    """Print all tables and write them into a document.

    Lines of the document for cases without rows are kept, even if the titles of the
    columns have changed.
    """
    for name, make in _TABLES.items():
        text = make(table)
        if len(text.splitlines()) <= 2:  # only the header
            kept = "" if document is None else f"; {document} keeps its table"
            print(f"No rows for 'benchmark {name}'{kept}.")
            continue
        print(text)
        if document is not None:
            old, new = section(document, f"benchmark {name}"), typeset(text)
            text = merged_tables(old, new, place_of)
            kept = len(text.splitlines()) - len(new.splitlines())
            if kept and old.splitlines()[0] != new.splitlines()[0]:
                print(
                    f"'benchmark {name}': the titles of the columns have changed, but "
                    f"lines without rows are kept ({kept}). Run their cases again."
                )
            replace_section(document, f"benchmark {name}", text)
