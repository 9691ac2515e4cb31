import json
import platform
import subprocess
import sys

import pytest

from dflash_app.store import fingerprint
from dflash_app.store.fingerprint import accelerators, hardware_fingerprint, library_versions


def test_the_fingerprint_names_this_machine() -> None:
    found = hardware_fingerprint()
    assert set(found) == {"cpu", "cores", "ram_bytes", "os", "gpus"}
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["ram_bytes"] > 2**28
    assert platform.system() in found["os"]
    assert json.loads(json.dumps(found)) == found


def test_versions_are_read_without_importing_the_libraries() -> None:
    code = (
        "import sys; from dflash_app.store.fingerprint import library_versions; "
        "v = library_versions(); "
        "print(v['torch'], v['python'], 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert answer[0] == library_versions()["torch"]
    assert answer[1:] == [platform.python_version(), "False", "False"]


def test_a_library_that_is_not_installed_is_left_out() -> None:
    assert None not in library_versions().values()
    assert "no-such-library" not in library_versions()


def test_the_accelerators_are_the_graphics_processors_or_apples_chip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert accelerators() == hardware_fingerprint()["gpus"] or platform.system() == "Darwin"
    monkeypatch.setattr(fingerprint, "_nvidia_gpus", list)
    for cpu, found in (("Apple M5 Max", ["Apple M5 Max"]), ("Some CPU", []), (None, [])):
        monkeypatch.setattr(fingerprint, "_cpu_model", lambda cpu=cpu: cpu)
        assert accelerators() == found
