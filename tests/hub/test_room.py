"""Short memory is said with figures and cures, and only where it is short."""

from dflash_app import settings
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.memory import Storing, estimate
from dflash_app.hub.model_files import read_json
from dflash_app.hub.room import refusal, room_warning, turn_refusal

TARGET = settings.EMBEDDED_DIR / "target"
NEED = estimate(stored_tensors(TARGET), read_json(TARGET / "config.json"), None, Storing("float32"))


def test_a_pair_is_refused_one_byte_below_what_it_needs_before_its_first_token() -> None:
    least = NEED.bytes_at(1)
    assert refusal(NEED, least, "on cpu", "choose nf4") is None
    said = str(refusal(NEED, least - 1, "on cpu", "choose nf4"))
    assert "0.0 GB of weights" in said
    assert said.endswith("are free on cpu: choose nf4, or free some memory.")


def test_a_context_that_does_not_fit_is_said_with_the_one_that_does() -> None:
    assert room_warning(NEED, NEED.total_bytes, "on cpu") is None
    longest = NEED.longest_context(NEED.total_bytes - 1)
    said = str(room_warning(NEED, NEED.total_bytes - 1, "for MLX"))
    assert f"are free for MLX: about {longest:,} tokens" in said


def test_lanes_share_what_is_free() -> None:
    beside = NEED.bytes_at(100) - NEED.weight_bytes
    assert turn_refusal(NEED, [100], beside, "on cpu") is None
    assert turn_refusal(NEED, [100, 100], 2 * beside, "on cpu") is None
    said = str(turn_refusal(NEED, [100, 100], beside, "on cpu"))
    assert said.startswith("Prompt and output limit make 100 tokens")
    assert "are free on cpu: lower the limit" in said
