"""The words of the Hub tab, whose pieces are in several modules."""

from pathlib import Path

from dflash_app.ui.language import Texts

texts = Texts.load("hub", Path(__file__).with_name("texts") / "hub.yaml")


def say_state(status: str) -> str:
    """A state of a pair, such as "not downloaded"."""
    return texts.say(f"status_{status.replace(' ', '_')}")


def say_files(count: int) -> str:
    """A number of files in words."""
    return texts.say("files_one" if count == 1 else "files_many", count=f"{count:,}")
