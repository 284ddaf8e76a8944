"""The errors that reach the user.

None of them derives from `RuntimeError`, because napari's generator workers swallow
errors of that class. Each message says what is wrong, where (file, layer or setting)
and what to do.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence

#: Values of ``errno`` for a full disk or an exceeded quota.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
#: Values of ``errno`` for too many open files.
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


class GeoSRError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    message : str
    fields : sequence of str
        Names of the settings or inputs concerned, such as ``"mask"``: docks show the
        message below them.

    Attributes
    ----------
    exit_code : int
        Exit code of the command line: 2 for a problem with the user's input, 1 for a
        bug, 130 if the user stopped the command.
    """

    exit_code = 2

    def __init__(self, message: str = "", *, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


class ConfigError(GeoSRError, ValueError):
    """A setting is out of range, or settings contradict each other."""


class VolumeError(GeoSRError, ValueError):
    """An array, its axes or its geometry is inconsistent or unsuitable."""


class UniformVolumeError(VolumeError):
    """Every voxel of a volume has the same grey value."""


class ProjectionsError(GeoSRError, ValueError):
    """Projections, angles, flat or dark fields are inconsistent or unsuitable."""


class FileError(GeoSRError):
    """A file cannot be read or written, e.g. because it is missing or damaged."""


class SeveralImagesError(FileError):
    """A file holds several images, and none of them is the obvious choice.

    Parameters
    ----------
    message : str
    sizes : mapping of str to int
        Number of pixels of each image, by the name that selects it.
    """

    def __init__(self, message: str, sizes: Mapping[str, int]) -> None:
        super().__init__(message)
        self.sizes = dict(sizes)


class ModelError(GeoSRError):
    """A model bundle is damaged or unknown, or does not fit the volume."""


class DeviceMemoryError(GeoSRError):
    """Not even the smallest tile fits into the memory of the device.

    Parameters
    ----------
    message : str
    enough : float, optional
        Smallest sufficient memory budget in bytes, if known.
    """

    def __init__(self, message: str, *, enough: float | None = None) -> None:
        super().__init__(message)
        self.enough = enough


class WholeVolumeMemoryError(DeviceMemoryError, ModelError):
    """A model that cannot be tiled does not fit into the memory of the device."""


class Cancelled(GeoSRError):  # noqa: N818  # it is not an error
    """The user asked to stop; finished work is kept if possible.

    Parameters
    ----------
    message : str
    summary : object
        Summary of the run up to this point; None if it had not begun.
    places : sequence of tuple of slice
        Finished tiles that no step has reported yet: their positions in the output.
    """

    exit_code = 130

    def __init__(
        self,
        message: str,
        *,
        summary: object = None,
        places: Sequence[tuple[slice, ...]] = (),
    ) -> None:
        super().__init__(message)
        self.summary = summary
        self.places = tuple(places)


class EngineError(GeoSRError):
    """Something failed inside the package: a bug, here or in a library."""

    exit_code = 1


class TrainingError(GeoSRError):
    """Training cannot continue: a loss is NaN or infinite, or the data are missing."""


class WorkerError(GeoSRError):
    """The worker processes of a run ended, or could not be started."""


class JobError(GeoSRError):
    """A job folder is missing, damaged, or not in a state that allows the request."""


class JobDoneError(JobError):
    """A job cannot be resumed because it has already finished."""


class CommandMissingError(JobError):
    """A queue's command, such as ``sbatch``, is not installed on this computer."""


class UnansweredError(JobError):
    """A queue has (or may have) accepted a job, but the job's number is unknown."""


class StoppedSubmissionError(UnansweredError):
    """The user stopped a submission that the queue has accepted, or may accept."""

    exit_code = 130


def describe_system_error(error: BaseException) -> str:
    """Describe an error of the operating system, and what to do; ``""`` for others.

    Such errors are caused neither by the user's input nor by a bug.
    """
    if isinstance(error, MemoryError):
        amount = re.search(r"allocate ([\d.]+ .iB)", str(error))
        part = f": {amount[1]} could not be allocated" if amount else ""
        return (
            f"There is not enough memory{part}. Close other programs, raise the limit "
            "(ulimit -v, or that of the batch job), or use a smaller part of the data."
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return (
            "The system allows no more threads. Close other programs, raise the "
            "limit on processes (ulimit -u), or use fewer threads (--threads 1)."
        )
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f"for {error.filename}" if error.filename else "for the output"
        if error.errno == errno.EDQUOT:
            return (
                f"There is no space left {where}: your quota on this disk is used up. "
                "Delete some of your files there, or choose another folder."
            )
        return (
            f"There is no space left {where}: the disk is full. Free some space or "
            "choose another folder."
        )
    if isinstance(error, OSError) and error.errno in _TOO_MANY:
        return (
            "The system allows no more open files. Close other programs, or raise "
            "the limit (ulimit -n)."
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            os.getcwd()
        except FileNotFoundError:
            return (
                "The current folder no longer exists. Change to another folder (cd) "
                "and run the command again."
            )
    if isinstance(error, UnicodeEncodeError):
        shown = error.object.encode("utf-8", "backslashreplace").decode()[:200]
        return (
            f"{shown!r} contains characters that cannot be encoded. Rename the file "
            "or folder."
        )
    return ""


class GeoSRWarning(UserWarning):
    """A result was computed, but the user should know about a limitation."""
