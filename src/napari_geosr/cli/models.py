"""``napari-geosr models list | show | verify``."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_geosr.cli.options import Json


def list_models(*, json: Json = False) -> int:
    """List the models at hand: those of the package and those of the user's folder."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from napari_geosr.cli.console import print_json
    from napari_geosr.operations import catalogue

    entries, damaged = catalogue.list_models(), catalogue.damaged()
    if json:
        rows = [catalogue.summary(entry) for entry in entries]
        print_json({"models": rows, "damaged": damaged})
        return 0
    table = Table("name", "task", "for", "×", "parameters", "where", box=None)
    for entry in entries:
        card = entry.card
        table.add_row(
            escape(card.name),
            card.task,
            "volumes" if card.axes == "ZYX" else "slices and volumes",
            str(card.upscale_factor),
            f"{card.n_parameters:,}",
            "bundled" if entry.bundled else escape(str(entry.path)),
        )
    Console().print(table)
    for reason in damaged.values():
        print(f"! damaged: {reason}", file=sys.stderr)
    return 0


def show_models(name: str, /, *, json: Json = False) -> int:
    """Show a model's card: what it is for and not for, and its figures.

    Refuses where the weights are damaged or not those that the card speaks of.

    Parameters
    ----------
    name
        Name of a model in the zoo, or the path of a bundle.
    """
    from rich.console import Console

    from napari_geosr.cli.console import print_json
    from napari_geosr.operations import catalogue

    card = catalogue.sound_card(name)
    if json:
        print_json(card.model_dump(mode="json"))
        return 0
    Console().print(catalogue.card_text(card), highlight=False, markup=False)
    return 0


def verify_models(path: Path, /, *, json: Json = False) -> int:
    """Check a model bundle: its card, checksum, weights, and the halo it promises.

    No code of the bundle is executed: it holds none.

    Parameters
    ----------
    path
        Folder or zip of card.yaml and weights.safetensors.
    """
    from napari_geosr.cli.console import print_json
    from napari_geosr.operations import catalogue

    card = catalogue.verify(path)
    if json:
        print_json({"path": str(path), "name": card.name, "valid": True})
    else:
        print(f"{path}: {card.name} is sound.")
    return 0
