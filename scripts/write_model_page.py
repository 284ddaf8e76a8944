"""Write ``docs/models.md`` from the cards of the bundled models."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.models.card import FigureRow, ModelCard
from napari_geosr.operations.models import catalogue

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
HEAD = """# Models and what they can do

## Models of your own and of others

*Plugins ▸ GeoSR ▸ Models* lists all that are at hand, by words, task, modality or what
fits the selected layer, with the card of each; *Restore with it* opens the Restore dock
with it chosen. Drop a file there, or press *Import…*, to add one.

![The Models dock: seven models, foam-sr-x2 chosen, its card below](images/models.png)

```
napari-geosr models import dncnn_25.pth --name dncnn
napari-geosr restore scan.tif --model dncnn --out restored.ome.tif
napari-geosr models export foam-denoise --format bioimageio --out foam-denoise.zip
napari-geosr models remove dncnn
```

What can be imported (`pip install "napari-geosr[zoo]"` for all but the first and last):

| what | as |
|---|---|
| models of napari-geosr, such as trainings make | a folder or zip |
| BioImage.IO packages | a zip, a folder, `rdf.yaml`, an identifier or an address |
| super-resolution or denoising weights [spandrel] knows | `.pth`, `.safetensors` |
| checkpoints of CAREamics (U-Net) | `.ckpt` |

[spandrel]: https://github.com/chaiNNer-org/spandrel

Nothing in a file is executed: of pickles only tensors, numbers and texts are read, and
a file that asks for more is refused with one sentence, as is one whose architecture
nobody knows. How far a network sees is measured, so that tiles are exact; where it sees
the whole image, the card says that they are not. Networks for images go over volumes
slice by slice; those for colours get grey in all three channels and the mean of what
comes out is kept. Before a model is kept, its result is compared with spandrel's own or
with the test arrays of the package, and it is refused if they differ by more than 0.001
(of 1, or of the values' standard deviation). Of a package the network is compared
first, between the package's own operations on grey values; then what `restore` makes
of the test image, with those operations as the card has them. Two things cannot be
compared like that, the network alone is: colour images, as grey is given in all
channels here, and images larger than the windows of a network that sees all of them.
A package that gives its result the mean and spread of its input is kept; its card
says by how much the result here, scaled back as the input was scaled, differs on the
test.

*Export…* and `models export` write a model for other programs, as a BioImage.IO
package or an ONNX graph, and compare its result for the same piece of an image with
the one here; it is not kept if the two differ by more than 10⁻⁴ standard deviations.
A volume given in pieces can come out otherwise. Models that `restore` scales by the
mean and standard deviation of the whole volume scale there by those of the piece that
is given: of one slice, or of the few neighbours that a model looks at together. Those
that take values from 0 to 1 have that scale in the package, by the lowest and highest
value (or the percentiles) of the piece; a graph alone has to be given such values. The
export says so, and so do the package's README and the graph's properties
(`grey_scale`). For what `restore` makes of a volume, give the package to `restore`: it
is a model of napari-geosr too.

The published weights of DnCNN (noise of 25 of 255) give on slices of a real CT scan and
of a microscope, through files and in tiles, what spandrel gives and what the definition
of the network gives, to 3 · 10⁻⁷ of the range (`tests/real/test_foreign_weights.py`).
So the numbers are those of the authors; whether they are right for your scan is another
question. Compare: networks of this family were made for photographs.

## Classical filters

`gaussian`, `tv` (total variation) and `nlm` (non-local means) stand in the list beside
the models and are used in the same way: `restore --model tv`, the Restore dock,
previews, tiles, cancelling, `--continue` and the record in the file. They have no
weights, so they cannot be trained on or exported; a bundle of one is a card alone.

Each has one *strength*. Unless the card sets it, the noise of the scan is measured and
the strength with the smallest expected error on this scan is taken
([how that is estimated](trust.md#which-one-or-none)); where all strengths would do
harm, the filter returns the scan. `--strength 0.5` halves it, `--strength 2` doubles
it. For a fixed strength, import a folder with a `card.yaml` of your own, which has for
example `network_kwargs: {strength: 0.6}` and is otherwise that of `models show tv
--json`.

| filter | strength | radius of influence |
|---|---|---|
| `gaussian` | standard deviation of the kernel, in voxels | 4 standard deviations |
| `tv` | weight of the total variation, in noise levels | 12 voxels (iterations) |
| `nlm` | cut-off of the distance of patches, in noise levels | 7 (2D), 3 (3D) voxels |

Volumes are filtered along all three axes, images along two. Tiles give the numbers of
the whole volume. `tv` minimises what `skimage.restoration.denoise_tv_chambolle` does,
with a fixed number of iterations, as a criterion of the whole volume could not be
tiled; it comes within 0.15 dB of the minimum. `nlm` compares patches of 3 voxels along
each axis.

## Models of the package

Written by `scripts/write_model_page.py` from the cards; `napari-geosr models show NAME`
prints the same. They were made from simulated scans by
`napari-geosr train` with the `train.yaml` beside their weights, and judged by
`scripts/complete_card.py`. Every figure is a mean over scans that training never saw
and no setting was chosen by (six of a kind for those of CT), with the classical
methods tuned on a scan of the same kind whose truth is known.

How to read the figures: errors are signed and relative to the known mask, with the same
Otsu rule for all; *volumes* is the Wasserstein-1 distance of the log10 pore volumes;
*Dice* compares the pore masks; the *noise-free* row is what a perfect restoration would
give. The truth of the models of foam and bone is the sharp object; that of `ct-denoise`
and `fluo-denoise` is the same image without noise, blur included, that of `fluo-sr-x2`
the light in pixels half as wide under half the blur, without noise; the range of the
latter two is the light of a bright structure. Porosity error alone does not
discriminate; read it beside the others.
"""
COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.1f}"),
    "porosity_error": ("porosity error", "{:+.1%}"),
    "pores_per_mm3_error": ("pores/mm³ error", "{:+.1%}"),
    "volume_histogram_distance": ("volumes", "{:.3f}"),
    "euler_error": ("Euler error", "{:+.2f}"),
    "dice": ("Dice", "{:.3f}"),
    "grey_level_distance": ("grey levels", "{:.3f}"),
    "spectrum_distance": ("spectrum", "{:.3f}"),
}


def cell(row: FigureRow, key: str) -> str:
    """One figure as text."""
    value = getattr(row, key)
    return "–" if value is None else COLUMNS[key][1].format(value)


def section(card: ModelCard) -> str:
    """One model's part of the page."""
    lines = [
        f"\n## {card.name}\n",
        f"{card.description}\n",
        f"- **Use it for:** {card.intended_use}",
        f"- **Not for:** {card.not_for}",
        f"- {card.n_parameters:,} parameters, halo {card.halo}, {card.licence}.\n",
    ]
    shown = [
        key
        for key in COLUMNS
        if any(getattr(row, key) is not None for row in card.figures)
    ]
    for test in dict.fromkeys(row.test_set for row in card.figures):
        lines.append(f"### {card.name}: {test}\n")
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


def main() -> None:
    """Write the page."""
    entries = [entry for entry in catalogue.list_models() if entry.bundled]
    cards = [entry.card for entry in entries if entry.card.has_weights]
    PAGE.write_text(HEAD + "\n".join(map(section, cards)), encoding="utf-8")


if __name__ == "__main__":
    main()
