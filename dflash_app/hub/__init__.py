"""What of a pair is on this machine."""
