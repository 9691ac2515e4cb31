"""Pairs of one thread race through MLX too, whose arrays belong to the thread that made them."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.engine.protocol import LoadOptions
from dflash_app.engine.racing import race_lanes
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import EMBEDDED_DIR
from tests.engine.scripted import output

ASKED = GenerationRequest((Message("user", "What is 12 + 30?"),), 32)


def pair_with(drafter: Path) -> Pair:
    return Pair(
        name=f"embedded-{drafter.name}",
        title="Embedded",
        family="qwen3",
        target=ModelRef(path=str(EMBEDDED_DIR / "target")),
        drafter=ModelRef(path=str(drafter)),
    )


def test_lanes_of_two_drafters_and_two_precisions_race_on_one_thread(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_DIR / "drafter", tmp_path / "copy")
    backend, mine = MlxBackend(), pair_with(EMBEDDED_DIR / "drafter")
    host: Any = backend.load(mine, LoadOptions())
    with closing(host):
        second: Any = backend.load_beside(pair_with(tmp_path / "copy"), LoadOptions(), host)
        third: Any = backend.load_beside(mine, LoadOptions(quantization="4bit"), host)
        with closing(second), closing(third):
            assert second._models.target is host._models.target is not third._models.target
            plain = replace(ASKED, mode="ar")
            found = list(race_lanes([(host, plain), (second, ASKED), (third, ASKED)]))
            outputs = [output([each for index, each in found if index == i]) for i in range(3)]
            assert outputs[0] == outputs[1] != []
            assert outputs[2] != []
        assert output(list(host.stream(plain))) == outputs[0]
