"""The page for Macs is what the code says: its figures are the app's own estimate."""

from benchmarks.apple_silicon import GIB, PAGE, build_page, lent_bytes, read_shapes
from dflash_app.hub.memory import Storing, estimate


def test_the_page_is_the_one_that_the_code_writes():
    said = "run `python -m benchmarks.apple_silicon --write` and look at the difference"
    assert PAGE.read_text(encoding="utf-8") == build_page(), said


def test_the_shapes_have_the_sizes_of_the_published_models():
    """Parameters by the models' own names: 4.0, 8.2 and 30.5 billion, two bytes each."""
    sizes = {
        shape.name: estimate(shape.target, shape.config, None, Storing()).target_bytes / 2e9
        for shape in read_shapes()
    }
    assert round(sizes["qwen3-4b"], 2) == 4.02
    assert round(sizes["qwen3-8b"], 2) == 8.19
    assert round(sizes["qwen3-coder-30b-a3b"], 1) == 30.5


def test_a_mac_lends_a_part_of_its_memory():
    assert lent_bytes(36) == 27 * GIB
    assert 10.6 * GIB < lent_bytes(16) < 10.7 * GIB
