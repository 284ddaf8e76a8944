"""Write the overview page and one page per bundled model from the model cards."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_geosr.models.card import FigureRow, ModelCard
from napari_geosr.operations.models import catalogue

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _document import typeset

DOCS = Path(__file__).resolve().parents[1] / "docs"
HEAD = """# Models

These models come with napari-geosr. Choose one by its purpose, or let the Restore dock
or `--model auto` [choose one for your scan](ranking.md).

`napari-geosr models show NAME` prints a card. To add third-party models, see
[Import and export models](import_models.md).

{overview}

With 313,889 parameters, `ct-sr-x4` exceeds the intended limit of 300,000.

`shape-sr-x2` and `skull-complete` refine and complete [binary shapes](shapes.md).
`gaussian`, `tv` and `nlm` are [classical filters](filters.md). `cubic-x2`, `-x4` and
`-x8`, and `spline-x2`, `-x4` and `-x8` interpolate
([which one](super_resolve.md#interpolation)).

## How the models were trained and evaluated

The models were trained on simulated scans, by `napari-geosr train` or by a script. All
settings, and the name of the script, are in the `train.yaml` stored with the weights.
Every value is a mean over scans that were not used for training or for choosing
settings (for CT, six scans of each kind). The classical methods were tuned on a scan of
the same kind with known ground truth.

## How to read the tables

These terms are used in the tables on the pages of the models.

| column | meaning |
|---|---|
| errors | signed errors relative to the true pores, with Otsu's threshold per volume |
| volumes | Wasserstein-1 distance between the distributions of log10 pore volumes |
| Dice | agreement of the pore masks |
| *noise-free* (row) | result of a perfect restoration |
| *input* (row) | the scan before restoration |
| *Gaussian 1.5*, … (rows) | filters, with the best strength for the tuning scan |
| *plane by plane* | the filter was applied in 2D |
| *Anscombe* | the photon noise was first transformed to have a constant variance |
| – | not computed |

The ground truth for the foam and bone models is the object without blur. For the other
denoisers, it is the noise-free image, which has the same blur as the scan; for
`ct-sr-x2` and `ct-sr-x4`, it is this image with smaller voxels. For
`fluo-sr-x2`, it is the noise-free image with half the pixel size and half the blur. For
all fluorescence models, the grey-value range used for the PSNR is the intensity of a
bright structure. The porosity error alone hardly distinguishes models, so read it
together with the other columns.
"""
COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.1f}"),
    "porosity_error": ("porosity error", "{:+.1%}"),
    "pores_per_mm3_error": ("pores/mm³ error", "{:+.1%}"),
    "volume_histogram_distance": ("volumes", "{:.3f}"),
    "euler_error": ("Euler error", "{:+.2f}"),
    "dice": ("Dice", "{:.3f}"),
    "branch_recall": ("branch recall", "{:.0%}"),
    "branch_precision": ("branch precision", "{:.0%}"),
    "grey_level_distance": ("grey levels", "{:.3f}"),
    "spectrum_distance": ("spectrum", "{:.3f}"),
}


def cell(row: FigureRow, key: str) -> str:
    """Format one value as text."""
    value = getattr(row, key)
    return "–" if value is None else COLUMNS[key][1].format(value)


def section(card: ModelCard) -> str:
    """Write the page of one model as Markdown text."""
    lines = [
        f"# {card.name}\n",
        f"{card.description}\n",
        f"- **Use it for:** {card.intended_use}",
        f"- **Not for:** {card.not_for}",
        f"- {card.n_parameters:,} parameters; halo of {card.halo} voxels; licence "
        f"{card.licence}.\n",
        "[How to read the tables](../models.md#how-to-read-the-tables)\n",
    ]
    shown = [
        key
        for key in COLUMNS
        if any(getattr(row, key) is not None for row in card.figures)
    ]
    for test in dict.fromkeys(row.test_set for row in card.figures):
        lines.append(f"## {test[0].upper()}{test[1:]}\n")
        heads = " | ".join(COLUMNS[key][0] for key in shown)
        lines.append(f"| | {heads} |")
        lines.append("|---" * (len(shown) + 1) + "|")
        for row in card.figures:
            if row.test_set == test:
                name = f"**{row.method}**" if row.method == "model" else row.method
                cells = " | ".join(cell(row, key) for key in shown)
                lines.append(f"| {name} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def overview(cards: list[ModelCard]) -> str:
    """Write a table of all models with their purposes as Markdown text."""
    rows = ["| model | purpose | parameters |", "|---|---|---|"]
    for card in cards:
        link = f"[`{card.name}`](models/{card.name}.md)"
        rows.append(f"| {link} | {card.title} | {card.n_parameters:,} |")
    return "\n".join(rows)


def main() -> None:
    """Write the overview and all pages."""
    entries = [entry for entry in catalogue.list_models() if entry.bundled]
    cards = [entry.card for entry in entries if entry.card.has_weights]
    text = HEAD.replace("{overview}", overview(cards))
    (DOCS / "models.md").write_text(text, encoding="utf-8")
    for card in cards:
        page = DOCS / "models" / f"{card.name}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(typeset(section(card)).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
