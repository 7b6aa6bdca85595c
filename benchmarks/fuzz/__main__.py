"""Damage inputs of every kind that the package reads, and read them with its public functions.

python -m benchmarks.fuzz [--kinds KIND ...] [--count N] [--seed S] [--data FOLDER] [--jobs J] [--out FOLDER]

A damaged input must either be read or be refused with an error of :mod:`xcarbon.core.errors`. Everything
else is a fault: another exception, also for lack of memory, of which a read may add 4 GB; a crash of the
process; a read that takes longer than 60 s; and a model that is loaded although its weights are damaged. A
fault is saved in ``--out`` with its damaged files, and ``--kinds KIND --seed S --count 1`` repeats it. The
exit status is 1 if there is any fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from benchmarks.fuzz.workers import READ, REFUSED, outcomes


def _tasks(kinds: Iterable[str], count: int, seed: int) -> list[tuple[str, int]]:
    """Divide ``count`` inputs by the shares of the kinds, and shuffle them.

    The inputs of a kind have the seeds from ``seed`` on.
    """
    from benchmarks.fuzz.inputs import KINDS

    total = sum(KINDS[kind].share for kind in kinds)
    counts = {kind: max(1, round(count * KINDS[kind].share / total)) for kind in kinds}
    tasks = [(kind, seed + number) for kind, n in counts.items() for number in range(n)]
    random.Random(seed).shuffle(tasks)
    return tasks


def _title(fault: str) -> str:
    """Return the last line of a traceback, which names the exception, and the place in the package."""
    lines = fault.strip().splitlines()
    if not fault.startswith("Traceback"):
        return lines[0]
    places = [line.strip() for line in lines if "/xcarbon/" in line and line.strip().startswith("File")]
    place = places[-1].replace('"', "").partition("/xcarbon/")[2] if places else ""
    return f"{lines[-1][:150]} [{place}]"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of inputs; by default all")
    parser.add_argument("--count", type=int, default=1000, help="number of damaged inputs")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the first input of each kind")
    parser.add_argument("--data", type=Path, help="folder of real data; by default, inputs are synthetic")
    parser.add_argument("--jobs", type=int, default=2, help="number of worker processes")
    parser.add_argument("--out", type=Path, default=Path("faults"), help="folder for the inputs of faults")
    args = parser.parse_args(arguments)
    import xcarbon
    from benchmarks.fuzz.inputs import KINDS

    unknown = set(args.kinds or ()) - KINDS.keys()
    if unknown:
        parser.error(f"unknown kinds {sorted(unknown)}; the kinds are {', '.join(KINDS)}")
    kinds = args.kinds or list(KINDS)
    tasks = _tasks(kinds, args.count, args.seed)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    faults: dict[str, list[str]] = defaultdict(list)
    with TemporaryDirectory() as folder, xcarbon.set_options(progress=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in kinds:
            (Path(folder) / kind).mkdir()
            KINDS[kind].write(Path(folder) / kind, args.data)
        with (
            suppress(KeyboardInterrupt),  # the table is that of the inputs so far
            closing(outcomes(tasks, args.jobs, Path(folder), args.out)) as found,
        ):
            for (kind, seed), outcome in tqdm(found, "reading", len(tasks), mininterval=1):
                counts[kind][outcome if outcome in (READ, REFUSED) else "fault"] += 1
                if outcome not in (READ, REFUSED):
                    faults[f"{kind}: {_title(outcome)}"].append(f"{seed}")
    print("| kind | inputs | read | refused | faults |\n|---|---:|---:|---:|---:|")
    for name, count in (*counts.items(), ("all", sum(counts.values(), Counter()))):
        print(f"| {name} | {count.total():,} | {count[READ]:,} | {count[REFUSED]:,} | {count['fault']:,} |")
    for title, seeds in sorted(faults.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(seeds)} x {title}\n  seeds {', '.join(seeds[:5])}", flush=True)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
