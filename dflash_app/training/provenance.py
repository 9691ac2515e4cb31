"""Where a trained drafter comes from, written beside its weights."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from dflash_app.training.config import TrainingConfig
from dflash_app.training.data import file_sha256

_LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers")


def write_provenance(
    folder: Path,
    config: TrainingConfig,
    *,
    num_sequences: int,
    num_parameters: int,
    num_seconds: float,
    acceptance: dict[int, float],
) -> None:
    """Write `training.json`.

    Args:
        folder: of the finished drafter.
        config: the run's.
        num_sequences: it trained on.
        num_parameters: of the drafter.
        num_seconds: of training in this and earlier sittings.
        acceptance: measured mean acceptance length by step.
    """
    weights = sorted(config.target.glob("*.safetensors"))
    record = {
        "config": config.model_dump(mode="json"),
        "target_sha256": {file.name: file_sha256(file) for file in weights},
        "conversations_sha256": file_sha256(config.conversations),
        "num_sequences": num_sequences,
        "num_parameters": num_parameters,
        "training_s": round(num_seconds, 1),
        "mean_acceptance_length_by_step": {str(s): round(a, 3) for s, a in acceptance.items()},
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    text = json.dumps(record, indent=2) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")
