"""Sample masks of long bones: the cortex, and the marrow space with its trabeculae.

After Buie, Campbell, Klinck, MacNeil & Boyd, Bone 41, 505 (2007),
doi:10.1016/j.bone.2007.07.007: the periosteal contour is a closing of the bone; the
endosteal contour is a closing of the spaces inside the periosteal contour that remain
after an opening.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, Step, never_stop

Mask = npt.NDArray[np.bool_]
Compartment = Literal["cortex", "marrow"]

#: Empty step, yielded regularly so that the caller can stop; the caller names the
#: stage.
_HEARTBEAT = Step()


def compartment_steps(
    solid: Mask,
    closing: int,
    which: Compartment,
    *,
    name: str = "volume",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Mask]:
    """Find the cortex, or the marrow space, of a bone with its axis along Z.

    Contours are closed curves in every slice, so the bone may be cut at both ends.

    Parameters
    ----------
    solid : ndarray of shape (Z, Y, X), bool
    closing : int
        Radius of the octahedral structuring element, in voxels. Openings in the cortex
        are closed, and trabeculae are absorbed by the marrow space, if they are at most
        twice this radius wide. Spaces that are nowhere wider than twice this radius are
        pores of the cortex; pores that open into the marrow space belong to the marrow
        space.
    which : {"cortex", "marrow"}

    Returns
    -------
    ndarray of shape (Z, Y, X), bool
        The cortex with its pores, or the marrow space with its trabeculae.

    Raises
    ------
    VolumeError
        If there is no bone, or no slice has a marrow space.
    Cancelled
        If `should_stop` returns True.
    """
    from scipy import ndimage

    def check() -> None:
        if should_stop():
            raise Cancelled(
                f"Measuring {name!r} was cancelled while finding the contours."
            )

    if not solid.any():
        raise VolumeError(
            f"{name!r} has no bone at this threshold, so it has no contours. Change "
            "the threshold or the phase, or use no sample mask.",
            fields=["sample_mask"],
        )
    body = _largest(solid)
    check()
    yield _HEARTBEAT
    total = yield from _moved(body, closing, check)
    total |= body
    for plane in total:
        check()
        ndimage.binary_fill_holes(plane, output=plane)
        yield _HEARTBEAT
    space = total & ~body
    wide = yield from _moved(space, closing, check, grow_first=False)
    marrow = yield from _moved(_pieces_with(space, wide), closing, check)
    marrow &= total
    if not marrow.any():
        raise VolumeError(
            f"{name!r} has no marrow space that is enclosed by the cortex and wider "
            f"than {2 * closing} voxels. Reduce the mask closing, or use another "
            "sample mask.",
            fields=["sample_mask"],
        )
    marrow = _largest(marrow)
    for plane in marrow:
        check()
        ndimage.binary_fill_holes(plane, output=plane)
        yield _HEARTBEAT
    return marrow if which == "marrow" else total & ~marrow


def _largest(mask: Mask) -> Mask:
    """Return the largest component that is connected by faces, edges or corners."""
    import cc3d

    labels = cc3d.connected_components(mask.view(np.uint8), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    found: Mask = labels == sizes.argmax()
    return found


def _pieces_with(mask: Mask, seeds: Mask) -> Mask:
    """Return the face-connected components of a mask that contain a seed."""
    import cc3d

    labels = cc3d.connected_components(mask.view(np.uint8), connectivity=6)
    kept = np.zeros(int(labels.max()) + 1, bool)
    kept[np.unique(labels[seeds & mask])] = True
    kept[0] = False
    found: Mask = kept[labels]
    return found


def _moved(
    mask: Mask, distance: int, check: Callable[[], None], *, grow_first: bool = True
) -> Generator[Step, None, Mask]:
    """Grow a mask and shrink it again (closing), or shrink and grow it (opening).

    The first and last slices are repeated beyond the volume, so that a bone that is cut
    there is neither closed nor shortened; on the other sides, everything outside is
    background.
    """
    from scipy import ndimage

    grown = np.pad(mask, ((distance, distance), (0, 0), (0, 0)), mode="edge")
    grown = np.pad(grown, ((0, 0), (distance, distance), (distance, distance)))
    cross = ndimage.generate_binary_structure(3, 1)
    for grow in (grow_first, not grow_first):
        for _ in range(distance):
            check()
            # Voxels outside the box neither grow into the mask nor erode it.
            grown = (
                ndimage.binary_dilation(grown, cross)
                if grow
                else ndimage.binary_erosion(grown, cross, border_value=1)
            )
            yield _HEARTBEAT
    inner: Mask = grown[
        distance : len(grown) - distance,
        distance : grown.shape[1] - distance,
        distance : grown.shape[2] - distance,
    ].copy()
    return inner
