"""Seconds of the embedded pair's steps, by whichever `dflash_app` comes first on the path.

A process for `families.py`, which runs two of them in turn, one on an older checkout: so this file
imports nothing of `benchmarks`, and calls only what both sides have. For each line that it reads,
it decodes once in each mode and writes a line of JSON: {"app": folder, "ar": s, "dflash": s}.
"""

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import dflash_app
from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.models import TorchModels
from dflash_app.engine.protocol import LoadOptions
from dflash_app.request import Mode, SamplingParams
from dflash_app.settings import EMBEDDED_DIR

PROMPT_IDS = [7 + 13 * index % 1500 for index in range(96)]
NUM_STEPS = {"ar": 120, "dflash": 60}
NUM_WARM_UP = 10


def step_seconds(models: TorchModels, mode: Mode) -> float:
    """The median of a run's steps after its first few: propose, verify, rewind.

    Every step keeps one token, whatever is accepted, so that both sides do the same work.
    """
    lane = models.open_lane(SamplingParams(), mode)
    lane.extend(PROMPT_IDS)
    lane.first_token()
    num_drafts = (models.block_size or 1) - 1 if mode == "dflash" else 0
    seconds = []
    for _ in range(NUM_WARM_UP + NUM_STEPS[mode]):
        length = lane.length
        started_s = perf_counter()
        lane.verify(lane.propose(num_drafts))
        lane.rewind(length + 1)
        seconds.append(perf_counter() - started_s)
    lane.close()
    return median(seconds[NUM_WARM_UP:])


def main() -> None:
    options = LoadOptions(device="cpu", dtype="float32", num_threads=1)
    models = load_models(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter", options)
    app = str(Path(dflash_app.__file__).parent)
    for _ in sys.stdin:
        answer = {"app": app, **{mode: step_seconds(models, mode) for mode in ("ar", "dflash")}}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
