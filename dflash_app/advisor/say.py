"""The advisor's words: a diagnosis as sentences, in any language of the catalogue."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import yaml

from dflash_app.advisor.diagnose import Diagnosis
from dflash_app.advisor.finding import Finding

WORDS = Path(__file__).with_name("texts.yaml")
"""The catalogue: `key: {en: ..., zh: ...}`."""


Speak = Callable[..., str]
"""Says a key of the catalogue, its names filled in."""


def english(key: str, /, **figures: object) -> str:
    """Say a key in English, for a terminal."""
    return _catalogue()[key]["en"].format(**figures)


def say_finding(finding: Finding, speak: Speak = english) -> str:
    """What limits the run, with the figures that it was computed from."""
    return speak(finding.key, **finding.figures)


def say_advice(finding: Finding, speak: Speak = english) -> str:
    """What to try, and what it would bring; "" where nothing is to be tried."""
    said = speak(f"{finding.key}_try", **finding.figures) if has_advice(finding) else ""
    gain = speak("gains", gain=finding.gain) if finding.gain is not None else ""
    return " ".join(filter(None, [said, gain]))


def say_cost(finding: Finding, diagnosis: Diagnosis, speak: Speak = english) -> str:
    """What a finding costs of the run's time, the first token's included."""
    if finding.lost_s is None:
        return speak("cost_unknown")
    total_s = diagnosis.case.profile.total_s
    lost, share = _seconds(finding.lost_s), finding.lost_s / total_s
    return speak("costs", lost=lost, total=_seconds(total_s), share=share)


def say_change(finding: Finding, speak: Speak = english) -> str:
    """What a finding suggests to change, in a few words; "" where it suggests nothing to run."""
    change = finding.change
    return "" if change is None else speak(f"change_{change.field}", value=change.value)


def say_headline(diagnosis: Diagnosis, speak: Speak = english) -> list[str]:
    """The run in figures, a sentence each."""
    return [speak(each.key, **each.figures) for each in diagnosis.headline]


def has_advice(finding: Finding) -> bool:
    """True where there are words on what to try."""
    return f"{finding.key}_try" in _catalogue()


def _seconds(seconds: float) -> str:
    """A time in the unit that reads best, the same in every language."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.995 else f"{seconds:.4g} s"


@cache
def _catalogue() -> Mapping[str, Mapping[str, str]]:
    words: Mapping[str, Mapping[str, str]] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return words
