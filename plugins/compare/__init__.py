"""The Compare tab: one prompt in two or three lanes that decode side by side."""

from dflash_app.hookspecs import Tab, hookimpl


@hookimpl
def register_tabs() -> list[Tab]:
    """Compare stands beside Chat."""
    return [Tab("Compare", 10, f"{__name__}.tab:build", {"zh": "对比"})]
