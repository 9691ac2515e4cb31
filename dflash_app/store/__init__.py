"""The run log: what was asked, what came out, how fast, on which machine."""
