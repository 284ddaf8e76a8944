"""Words for a single image in place of those for a volume."""

from __future__ import annotations

#: Phrases about volumes, and the corresponding ones for a single image, in the order in
#: which they are replaced.
_PHRASES = (
    ("faces of the volume", "edges of the image"),
    ("the faces", "the edges"),
    ("border of the volume", "border of the image"),
    ("whole volume", "whole image"),
)


def flat_words(text: str, *, flat: bool = True) -> str:
    """Return `text` with phrases about an image instead of a volume, if `flat`."""
    for phrase, of_image in _PHRASES if flat else ():
        text = text.replace(phrase, of_image)
    return text


def counted_elements(n: int, *, flat: bool) -> str:
    """Return the word for `n` voxels or, if `flat`, pixels."""
    return f"{'pixel' if flat else 'voxel'}{'' if n == 1 else 's'}"
