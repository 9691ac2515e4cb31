"""DFlash Studio: run DFlash speculative decoding beside plain decoding, and see the difference."""

__version__ = "0.1.0"
