"""What the Servers tab says, in each language."""

from pathlib import Path

from dflash_app.ui.language import Texts

texts = Texts.load("servers", Path(__file__).with_name("texts.yaml"))
