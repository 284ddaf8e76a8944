"""``python -m napari_geosr.jobs FOLDER``: the process of a job."""

from __future__ import annotations

import signal
import sys
import threading

from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_is_job
from napari_geosr.jobs.local import turn
from napari_geosr.jobs.run import is_worker, run_steps

#: Maximum wait, in seconds, for the starting process to release the job.
_MAX_START_SECONDS = 5.0


def main(folder: str) -> int:
    """Wait for the job's turn and run it; SIGTERM pauses it."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    job = JobFolder(folder)
    if is_worker():  # started by `accelerate launch`; the first process owns the folder
        return _run(job, stop)
    try:
        check_is_job(job)
        with job.hold(_MAX_START_SECONDS):
            job.claim("queued")
            with turn(job, stop.is_set) as request:
                if request:
                    job.clear_request()
                    job.set_state("cancelled" if request == "cancel" else "paused")
                    return 0
                return _run(job, stop)
    except JobError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        return error.exit_code


def _run(job: JobFolder, stop: threading.Event) -> int:
    try:
        for _ in run_steps(job, should_stop=stop.is_set):
            pass
    except GeoSRError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
