"""What this app is fast at, and how fast, measured on one machine: see README.md beside this."""
