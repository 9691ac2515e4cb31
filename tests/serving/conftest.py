"""The registry's pairs by name, and ways to read a plan."""

from contextlib import closing

import pytest

from dflash_app.registry.pair import Pair
from dflash_app.serving.plan import ServePlan
from dflash_app.workspace import open_workspace


@pytest.fixture
def pairs(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Pair]:
    """Of the bundled registry; nothing is in the hub's cache."""
    import huggingface_hub.constants

    empty = str(tmp_path_factory.mktemp("empty-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", empty)
    with closing(open_workspace()) as workspace:
        return {pair.name: pair for pair in workspace.pairs()}


def flags_of(plan: ServePlan) -> list[str]:
    return [each.flag for each in plan.arguments]


def values_of(plan: ServePlan) -> dict[str, str | None]:
    return {each.flag: each.value for each in plan.arguments}
