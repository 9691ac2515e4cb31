"""Fixed drafts, adaptive drafts and AR on the same prompts: `python -m benchmarks.policy`.

Every prompt is decoded in all three ways one right after the other, in a random order. The
kinds are the embedded pair's twelve, noise, other languages, and replies that run on after their
end, of which the drafter never saw any. Exit code 1: on some kind adaptive drafts take over 5 %
more time than the better of the two others, or not less than fixed ones where AR beats these.
"""

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.acceptances import RUNNING_ON
from benchmarks.embedded import use_cores
from benchmarks.pairs import EMBEDDED, add_pair, copy_endless, folders, open_pair
from benchmarks.prompts import Prompt, held_out_prompts
from benchmarks.report import Check, environment, format_table, write_results
from benchmarks.strange_prompts import strange_prompts
from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import DFlashAppError
from dflash_app.events import PrefillDone, StepDone
from dflash_app.metrics import summarize
from dflash_app.request import GenerationRequest, Message

WAYS: Mapping[str, Mapping[str, Any]] = {
    "ar": {"mode": "ar"},
    "fixed": {"mode": "dflash", "policy": "fixed"},
    "adaptive": {"mode": "dflash", "policy": "adaptive"},
}
HEADER = (
    "kind", "AR ms", "fixed ms", "adaptive ms", "fixed / AR", "adaptive / AR", "adaptive / fixed",
    "/ better", "fallbacks",
)  # fmt: skip
NUM_WARM_UP = 3
MAX_REGRET = 1.05


@dataclass(frozen=True, slots=True)
class Round:
    """One prompt, once each way.

    Attributes:
        seconds: decoding time by way.
        num_fallbacks: times that the adaptive run fell back to AR.
        identical: all three put out the same tokens.
    """

    seconds: Mapping[str, float]
    num_fallbacks: int
    identical: bool


def measure(
    loaded: LoadedPair, prompts: Sequence[Prompt], *, repeats: int, max_new_tokens: int
) -> dict[str, list[Round]]:
    """Decode every prompt `repeats` times each way.

    Returns:
        The rounds by kind of prompt; replies of one token, which take no step, left out.
    """
    for prompt in prompts[:NUM_WARM_UP]:
        for way in WAYS:
            _decode(loaded, prompt, way, max_new_tokens)
    rounds: dict[str, list[Round]] = defaultdict(list)
    source = random.Random(0)
    for _ in range(repeats):
        for prompt in prompts:
            # By chance: a run can reuse the prompt of the one before, unless that was AR.
            order = source.sample(list(WAYS), len(WAYS))
            runs = {way: _decode(loaded, prompt, way, max_new_tokens) for way in order}
            if any(seconds is None for seconds, _, _ in runs.values()):
                continue
            rounds[prompt.kind].append(
                Round(
                    {way: seconds or 0.0 for way, (seconds, _, _) in runs.items()},
                    runs["adaptive"][2],
                    len({tuple(token_ids) for _, token_ids, _ in runs.values()}) == 1,
                )
            )
    return rounds


def figures_of(rounds: Sequence[Round]) -> dict[str, float | int]:
    """Medians of the decoding seconds of one kind of prompt and of their paired ratios."""

    def ratio(way: str, other: str) -> float:
        return median(each.seconds[way] / each.seconds[other] for each in rounds)

    fixed_to_ar, to_fixed, to_ar = (
        ratio("fixed", "ar"),
        ratio("adaptive", "fixed"),
        ratio("adaptive", "ar"),
    )
    return {
        **{f"{way}_s": median(each.seconds[way] for each in rounds) for way in WAYS},
        "fixed_to_ar": fixed_to_ar,
        "adaptive_to_ar": to_ar,
        "adaptive_to_fixed": to_fixed,
        "adaptive_to_better": to_fixed if fixed_to_ar < 1.0 else to_ar,
        "fallbacks": sum(each.num_fallbacks for each in rounds),
        "runs": len(rounds),
        "different_outputs": sum(not each.identical for each in rounds),
    }


def judge(kinds: Mapping[str, Mapping[str, float | int]]) -> list[Check]:
    """What adaptive drafts promise."""
    worst = max(kinds, key=lambda kind: kinds[kind]["adaptive_to_better"])
    checks = [
        Check(
            f"adaptive over the better of fixed and AR, worst kind ({worst})",
            kinds[worst]["adaptive_to_better"],
            "below",
            MAX_REGRET,
        ),
        Check(
            "different outputs",
            sum(each["different_outputs"] for each in kinds.values()),
            "below",
            1,
        ),
    ]
    return checks + [
        Check(f"adaptive over fixed, {kind}", each["adaptive_to_fixed"], "below", 1.0)
        for kind, each in kinds.items()
        if each["fixed_to_ar"] > 1.0
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 where a target is missed."""
    options = _parse(argv)
    threads = options.threads or use_cores(options.cores)
    own = [*held_out_prompts(options.prompts), *strange_prompts()]
    running_on = [
        Prompt(RUNNING_ON, each.text) for each in held_out_prompts(options.running_on)[1:]
    ]
    limits = {"repeats": options.repeats, "max_new_tokens": options.max_new_tokens}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        target, drafter = folders(None, None)
        add_pair(home, "endless", copy_endless(target, home / "endless"), drafter)
        with open_pair(home, EMBEDDED, threads) as loaded:
            rounds = measure(loaded, own, **limits)
        with open_pair(home, "endless", threads) as loaded:
            rounds |= measure(loaded, running_on, **limits)
    kinds = {kind: figures_of(group) for kind, group in rounds.items()}
    print(f"{threads} thread(s); medians of decoding milliseconds, and of their paired ratios:")
    print(format_table(HEADER, [_row(kind, each) for kind, each in kinds.items()]))
    checks = judge(kinds)
    print("\n".join(str(check) for check in checks))
    if options.out is not None:
        write_results(options.out, {**environment(), "threads": threads, "kinds": kinds}, checks)
    return 0 if all(check.met for check in checks) else 1


def _row(kind: str, figures: Mapping[str, float | int]) -> tuple[str | float | int, ...]:
    milliseconds = [1e3 * figures[f"{way}_s"] for way in WAYS]
    return (kind, *milliseconds, *[*figures.values()][len(WAYS) :])[: len(HEADER)]


def _decode(
    loaded: LoadedPair, prompt: Prompt, way: str, max_new_tokens: int
) -> tuple[float | None, list[int], int]:
    """Decoding seconds, tokens and fallbacks of one reply."""
    request = GenerationRequest((Message("user", prompt.text),), max_new_tokens, **WAYS[way])
    token_ids: list[int] = []
    events, num_fallbacks = list(loaded.stream(request)), 0
    for event in events:
        if isinstance(event, PrefillDone):
            token_ids.append(event.token_id)
        elif isinstance(event, StepDone):
            token_ids += event.token_ids
            num_fallbacks += (event.note or "").startswith("AR fallback")
    return summarize(events).decode_s, token_ids, num_fallbacks


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("--prompts", type=int, default=48, help="held-out prompts")
    parser.add_argument("--running-on", type=int, default=8, help="of these without an end")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all prompts")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="limit of a reply")
    parser.add_argument("--threads", type=int, help="compute threads (default: cores)")
    parser.add_argument("--cores", type=int, default=2, help="that everything may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
