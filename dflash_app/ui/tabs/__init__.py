"""The tabs that ship with the page itself."""
