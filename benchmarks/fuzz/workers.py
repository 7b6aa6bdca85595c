"""Reading of damaged inputs in processes that may crash, hang or need too much memory."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import traceback
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.fuzz.damage import Files, damage

#: Longest time of a read [s], and largest memory that it adds to the process [bytes].
SECONDS, MEMORY = 60, 4 * 2**30
READ, REFUSED = "read", "refused"


# Worker processes


def _work(connection: Connection, originals: Path, work: Path) -> None:
    """Read damaged inputs (kind, seed) until there are no more, and return the outcome of each."""
    import dask

    import xcarbon

    # Libraries print to this file, and a crash its traceback.
    log = os.open(work / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends them
    warnings.simplefilter("ignore")
    xcarbon.set_options(progress=False)
    dask.config.set(scheduler="synchronous")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    expected: dict[str, object] = {}
    while (task := connection.recv()) is not None:
        os.truncate(log, 0)
        shutil.rmtree(work / "inputs", ignore_errors=True)
        # The paths differ, because libraries (HDF4) remember the files that they could not open.
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        connection.send(_outcome(*task, originals, work / "inputs", expected))
        faulthandler.cancel_dump_traceback_later()


def _outcome(kind: str, seed: int, originals: Path, folder: Path, expected: dict[str, object]) -> str:
    """Damage and read an input; return "read", "refused" or the traceback of a fault."""
    from benchmarks.fuzz.inputs import KINDS
    from xcarbon.core.errors import XCarbonError

    read = KINDS[kind].read
    files = _load(originals / kind)
    if kind not in expected:
        expected[kind] = read(_save(files, folder / kind))
    _save(
        damage(random.Random(f"{kind} {seed}"), files, members=not KINDS[kind].weights),
        folder / f"{kind}-{seed}",
    )
    try:
        found = read(folder / f"{kind}-{seed}")
    except XCarbonError:
        return REFUSED
    except Exception:
        return traceback.format_exc()
    if KINDS[kind].weights and found != expected[kind]:
        return "DamagedWeights: a model with other weights was loaded"
    return READ


def _load(folder: Path) -> Files:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _save(files: Files, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class Worker:
    """A process that reads damaged inputs, and that is replaced when it crashes or hangs."""

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, originals: Path, work: Path) -> None:
        self.originals, self.work = originals, work
        work.mkdir()
        self._start()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self.originals, self.work)
        self._process = self._context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def outcome(self, kind: str, seed: int) -> str:
        """Return "read", "refused" or a text that describes the fault."""
        try:
            self._connection.send((kind, seed))
            if self._connection.poll(2 * SECONDS):  # the process ends itself after SECONDS, if it can
                return str(self._connection.recv())
            self._process.kill()
        except (EOFError, OSError):
            pass
        self._process.join()
        log = (self.work / "log.txt").read_text(errors="replace").partition("Extension modules:")[0]
        fault = (
            "Hang"
            if "Timeout (" in log or self._process.exitcode == -9
            else f"Crash with exit status {self._process.exitcode}"
        )
        self._start()
        return f"{fault}\n{log}"

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def outcomes(
    tasks: list[tuple[str, int]], jobs: int, originals: Path, out: Path
) -> Generator[tuple[tuple[str, int], str]]:
    """Yield each task with its outcome, and save the inputs of faults."""
    local, workers = threading.local(), []

    def run(task: tuple[str, int]) -> str:
        if not hasattr(local, "worker"):
            local.worker = Worker(originals, originals / f"worker-{threading.get_ident()}")
            workers.append(local.worker)
        outcome = local.worker.outcome(*task)
        if outcome not in (READ, REFUSED):
            folder = out / "{}-{}".format(*task)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(local.worker.work / "inputs" / folder.name, folder)
            (folder / "fault.txt").write_text(outcome)
        return outcome

    Worker._context.set_forkserver_preload(["benchmarks.fuzz.inputs"])
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from zip(tasks, pool.map(run, tasks), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)
            for worker in workers:
                worker.close()
