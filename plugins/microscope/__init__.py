"""The Microscope tab: one run block by block, where its time went, and why it was not faster."""

from dflash_app.hookspecs import Tab, hookimpl


@hookimpl
def register_tabs() -> list[Tab]:
    """Microscope stands before History."""
    return [Tab("Microscope", 50, f"{__name__}.tab:build", {"zh": "显微镜"})]
