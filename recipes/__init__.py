"""How things that ship with the app were made."""
