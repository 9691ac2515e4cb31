"""What a user reads where memory is short: the figures and the cures, in one sentence."""

from collections.abc import Sequence

from dflash_app.hub.memory import MemoryNeed


def refusal(need: MemoryNeed, free: int, where: str, cures: str) -> str | None:
    """Why a pair cannot be loaded, or None.

    Args:
        need: of the pair.
        free: bytes, with nothing of the pair in memory.
        where: where they are free: "on cuda:0", "for MLX".
        cures: what to choose instead.
    """
    least = need.bytes_at(1)
    if least <= free:
        return None
    return (
        f"The pair needs {_say(least)} before its first token ({_say(need.weight_bytes)} of "
        f"weights), and {_say(free)} are free {where}: {cures}, or free some memory."
    )


def room_warning(need: MemoryNeed, free: int, where: str) -> str | None:
    """What to know where the usual context does not fit beside the weights, or None.

    Args:
        need: of the pair.
        free: as `refusal` takes it.
        where: the same.
    """
    if need.total_bytes <= free:
        return None
    longest = need.longest_context(free)
    return (
        f"At {need.context_length:,} tokens this pair needs {_say(need.total_bytes)}, and "
        f"{_say(free)} are free {where}: about {longest:,} tokens of prompt and answer fit."
    )


def turn_refusal(need: MemoryNeed, lengths: Sequence[int], free: int, where: str) -> str | None:
    """Why lanes cannot be opened beside the weights, or None.

    Args:
        need: of the pair, which is loaded.
        lengths: of each lane, prompt and output limit together.
        free: bytes, what earlier lanes left included.
        where: where they are free.
    """
    wanted = sum(need.bytes_at(length) - need.weight_bytes for length in lengths)
    if wanted <= free:
        return None
    said = (
        f"Prompt and output limit make {max(lengths):,} tokens, which need up to {_say(wanted)} "
        f"beside the weights, and {_say(free)} are free {where}: "
    )
    longest = need.longest_context(need.weight_bytes + free // len(lengths))
    if not longest:
        return f"{said}no turn fits, however short; choose a smaller pair, or free some memory."
    return (
        f"{said}lower the limit or shorten the conversation to {longest:,} tokens in all, choose "
        "a smaller pair, or free some memory."
    )


def _say(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
