"""How much memory a process had at most."""

from pathlib import Path


def peak_memory() -> float:
    """Largest memory that this process ever had [GB], on Linux."""
    # Not resource.getrusage: there, a process begins with the peak of the one that started it.
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) * 1024 / 1e9
