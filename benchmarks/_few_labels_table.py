"""Results of the few-labels benchmark on radiographs, and their table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from _document import replace_section

Results = dict[str, list[float]]

#: Methods, in the order of the table, with the names used there.
METHODS = {
    "from scratch": "from scratch",
    "msdnet": "`msdnet` from scratch",
    "forest": "random forest on filters",
    "denoiser": "`ptdr` after denoising autoencoder",
    "denoiser, frozen": "denoising autoencoder, frozen",
    "ddpm": "`ptdr` after `ddpm`",
    "ddpm, forest": "random forest on filters and `ddpm`",
    "ddpm, frozen": "`ddpm`, frozen",
}
#: Name of the file with the results in a folder, and of the section of the document.
FILE, SECTION = "results.json", "few labels radiographs"
#: Seed of the draw of the labelled image with which learning rates are chosen.
SEARCH_DRAW = 1000
#: Names of the images on which learning rates are chosen, and of the test images.
CHOSEN, TESTED = "chosen", "tested"

_KEY = re.compile(
    r"(?P<method>.+), (?P<count>\d+) labels, draw (?P<draw>\d+)"
    r"(, rate (?P<rate>[^,]+))?, (?P<images>\w+)"
)


def key(method: str, count: int, draw: int, rate: float | None, images: str) -> str:
    """Return the name under which a result is stored."""
    rated = "" if rate is None else f", rate {rate}"
    return f"{method}, {count} labels, draw {draw}{rated}, {images}"


def read(folders: Iterable[Path]) -> Results:
    """Read the results in several folders.

    Raises
    ------
    ValueError
        If two folders have different results under the same name.
    """
    results: Results = {}
    for folder in folders:
        for name, values in json.loads((folder / FILE).read_text()).items():
            if results.setdefault(name, values) != values:
                raise ValueError(
                    f"{folder / FILE} and another folder have different results for "
                    f"{name!r}: use results of the same settings."
                )
    return results


def in_per_cent(values: Sequence[float]) -> str:
    """Return mean and standard deviation; only the mean if there is a single value."""
    each = 100 * np.array(values)
    spread = f" ± {each.std(ddof=1):.1f}" if len(each) > 1 else ""
    return f"{each.mean():.1f}{spread}"


def table(results: Mapping[str, Sequence[float]]) -> str:
    """Return a table of the test images, with a row per method.

    The learning rate of each method is the best one of those tried on the images for
    choosing it.
    """
    tried: dict[tuple[str, str | None], list[float]] = {}
    cells: dict[tuple[str, str | None, int], list[float]] = {}
    for name, values in results.items():
        found = _KEY.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is not the name of a result.")
        method, rate, count = found["method"], found["rate"], int(found["count"])
        if found["images"] == TESTED:
            each = cells.setdefault((method, rate, count), [])
            each.append(float(np.mean(values)))
        elif int(found["draw"]) == SEARCH_DRAW:
            tried.setdefault((method, rate), []).append(float(np.mean(values)))
    counts = sorted({count for _, _, count in cells})
    most = max(map(len, cells.values()), default=0)
    heads = (f"{n} labelled image{'s' if n > 1 else ''}" for n in counts)
    lines = [
        f"| method ({most} draws) | " + " | ".join(heads) + " |",
        "|---" * (len(counts) + 1) + "|",
    ]
    for method, title in METHODS.items():
        own = {
            rate: float(np.mean(scores))
            for (other, rate), scores in tried.items()
            if other == method
        }
        if not own:
            continue
        best = max(own, key=lambda rate: own[rate])
        row = [cells.get((method, best, count), []) for count in counts]
        if any(row):
            lines.append(f"| {title} | {' | '.join(_cell(v, most) for v in row)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float], most: int) -> str:
    if not values:
        return "not run"
    fewer = "draw" if len(values) == 1 else "draws"
    note = f" ({len(values)} {fewer})" if len(values) < most else ""
    return in_per_cent(values) + note


def write_table(folders: Iterable[Path], document: Path | None) -> None:
    """Write the table of the results in `folders` into `document`, or print it."""
    text = table(read(folders))
    if document is None:
        print(text)
    else:
        replace_section(document, SECTION, text)
