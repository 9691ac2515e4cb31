"""Drafter formats, a module each; the package's `recognise` tells which one a folder is in."""
