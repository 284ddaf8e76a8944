"""Handle file names and suffixes, and recognise file types by their first bytes."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.io.formats import known_suffix

_SIGNATURES = (
    (b"II*\x00", "a TIFF file"),
    (b"MM\x00*", "a TIFF file"),
    (b"II+\x00", "a BigTIFF file"),
    (b"MM\x00+", "a BigTIFF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"BM", "a BMP picture"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


def suffix_of(path: Path) -> str:
    """Return the longest known suffix of `path`; if none is known, its last suffix."""
    return known_suffix(path.name) or path.suffix.lower()


def stem_of(path: Path) -> str:
    """Return the name of `path` without its known suffix."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def incomplete_path(path: Path) -> Path:
    """Return the path of an incomplete file: ``STEM.incomplete.SUFFIX``."""
    return path.with_name(f"{stem_of(path)}.incomplete{suffix_of(path)}")


def sibling_path(path: Path, ending: str) -> Path:
    """Return the path of a companion file of `path`: ``STEM_ENDING.SUFFIX``."""
    stem = stem_of(path)
    return path.with_name(f"{stem}_{ending}{path.name[len(stem) :]}")


def looks_like(path: Path) -> str:
    """Describe the file type indicated by the first bytes: "it is a zip archive"."""
    with path.open("rb") as stream:
        head = stream.read(32)
    for beginning, words in _SIGNATURES:
        if head.startswith(beginning):
            return f"it is {words}"
    text = head[:16].decode("ascii", errors="replace")
    readable = "".join(
        c for c in text if c.isascii() and (c.isprintable() or c in "\n\t")
    )
    if len(readable) < len(text):
        return "it contains binary data of an unknown type"
    return f"it begins with {' '.join(readable.split())!r}"
