"""The History tab: every run in the log, its detail and its charts."""

from dflash_app.hookspecs import Tab, hookimpl


@hookimpl
def register_tabs() -> list[Tab]:
    """History stands at the end."""
    return [Tab("History", 90, f"{__name__}.tab:build", {"zh": "历史"})]
