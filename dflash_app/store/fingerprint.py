"""On what a run was made: the machine and the versions, without importing any heavy library."""

import ctypes
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "mlx", "mlx-lm", "bitsandbytes")
"""Libraries whose version may change a figure or an output."""


def library_versions() -> dict[str, str]:
    """Read the installed versions of Python and of `LIBRARIES`; absent ones are left out."""
    return {"python": platform.python_version(), **_installed()}


def hardware_fingerprint() -> dict[str, Any]:
    """Describe this machine so that two figures can be told to be comparable.

    Returns:
        `cpu` (model), `cores` (that this process may use), `ram_bytes`, `os`, `gpus` (models;
        only NVIDIA's on Linux are seen here). None or an empty list means unknown.
    """
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "ram_bytes": _ram_bytes(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpus": _nvidia_gpus(),
    }


def accelerators() -> list[str]:
    """A name for each accelerator: NVIDIA's as in the fingerprint, or Apple's chip."""
    cpu = _cpu_model() or ""
    return _nvidia_gpus() or ([cpu] if cpu.startswith("Apple ") else [])


@cache
def _installed() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _cpu_model() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return answer.stdout.strip() or None
    return platform.processor() or platform.machine() or None


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _ram_bytes() -> int | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _windows_ram_bytes()


def _windows_ram_bytes() -> int | None:
    kernel32 = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    kilobytes = ctypes.c_ulonglong()
    if kernel32 is None or not kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return None
    return kilobytes.value * 1024


def _nvidia_gpus() -> list[str]:
    models = []
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                models.append(line.partition(":")[2].strip())
    return models
