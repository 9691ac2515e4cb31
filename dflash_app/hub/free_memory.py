"""Memory of this machine that nobody uses."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_ram_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that a program can take without swapping; None where the system does not tell.

    Args:
        meminfo: Linux's; caches of files that it can drop count as free.
        cgroup: a container's, which may allow less.
    """
    free = _available(meminfo)
    limit = _left_in(cgroup)
    known = [each for each in (free, limit) if each is not None]
    return min(known) if known else None


def total_ram_bytes() -> int | None:
    """Bytes that are built in; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        said = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(said.split()[1]) * 1024
    except (OSError, ValueError, LookupError, StopIteration):
        return None


def _left_in(cgroup: Path) -> int | None:
    """What a container (cgroup v2) may still take; files that it read can be dropped."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        stat = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
        files = next(
            (line for line in stat if line.startswith("inactive_file ")), "inactive_file 0"
        )
        return max(0, limit - used + int(files.split()[1]))
    except (OSError, ValueError, LookupError):
        return None
