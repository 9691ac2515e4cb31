"""Free memory as Linux and containers tell it."""

from pathlib import Path

from dflash_app.hub.free_memory import free_ram_bytes, total_ram_bytes

MEMINFO = "MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def test_what_linux_calls_available_is_free(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert free_ram_bytes(tmp_path / "meminfo", tmp_path) == 8_000_000 * 1024


def test_a_container_may_allow_less_and_files_that_it_read_can_be_dropped(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("anon 2500000000\ninactive_file 400000000\n")
    assert free_ram_bytes(tmp_path / "meminfo", tmp_path) == 1_400_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_ram_bytes(tmp_path / "meminfo", tmp_path) == 8_000_000 * 1024


def test_what_is_not_told_is_unknown_and_not_zero(tmp_path: Path) -> None:
    assert free_ram_bytes(tmp_path / "meminfo", tmp_path) is None
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\n")
    assert free_ram_bytes(tmp_path / "meminfo", tmp_path) is None


def test_this_machine_has_memory() -> None:
    total = total_ram_bytes()
    assert total is None or total > 100_000_000
