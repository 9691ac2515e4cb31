"""The block of YAML at the top of README.md that tells Hugging Face how to run a Space."""

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Color = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
Repo = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]


class FrontMatter(BaseModel):
    """What a Space of this app must say; keys as in Hugging Face's configuration reference."""

    model_config = ConfigDict(frozen=True, extra="allow")

    title: str = Field(min_length=1)
    emoji: str = Field(min_length=1, max_length=8)
    colorFrom: Color  # noqa: N815 their name
    colorTo: Color  # noqa: N815
    sdk: Literal["gradio"]
    sdk_version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    python_version: str = Field(pattern=r"^3\.\d+(\.\d+)?$")
    app_file: str = Field(min_length=1)
    suggested_hardware: str = Field(min_length=1)
    short_description: str = Field(min_length=1, max_length=60)
    models: tuple[Repo, ...] = ()
    tags: tuple[str, ...] = ()


def read_front_matter(path: Path) -> FrontMatter:
    """Read and check the block.

    Raises:
        ValueError: there is none, or a key is missing or wrong; says which.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"{path.name} cannot be read ({error.strerror}): a Space needs it."
        ) from error
    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if block is None:
        raise ValueError(f"{path.name} does not begin with a block of YAML between two lines ---.")
    try:
        return FrontMatter.model_validate(yaml.safe_load(block[1]))
    except yaml.YAMLError as error:
        raise ValueError(f"The block at the top of {path.name} is no YAML: mend it.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the block"
        raise ValueError(
            f"{key} at the top of {path.name}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from error
