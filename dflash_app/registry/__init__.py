"""The known pairs of target and drafter: rows of YAML, checked once."""
