"""What the advisor says of a run, in the language of the browser that asks."""

from dflash_app.advisor.diagnose import diagnose
from dflash_app.advisor.say import WORDS, say_advice, say_finding
from dflash_app.errors import StoreError
from dflash_app.ui.language import Texts
from dflash_app.workspace import Workspace

advisor_texts = Texts.load("advisor", WORDS)
"""The advisor's own catalogue, which the command line reads too."""


def hint_line(workspace: Workspace, run_id: int) -> str:
    """The one thing worth a line under a reply; "" where nothing is, or nothing can be told.

    Reads the run and the newest of its pair from the log.

    Args:
        workspace: has the log.
        run_id: of a run that has ended.
    """
    try:
        hint = diagnose(workspace.store, workspace.registry, run_id).hint()
    except StoreError:
        return ""  # a log that cannot be read stops no chat
    if hint is None:
        return ""
    told = [say_finding(hint, advisor_texts.say), say_advice(hint, advisor_texts.say)]
    return " ".join(filter(None, told))
