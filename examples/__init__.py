"""Examples: one task a file, from raw data to an evaluated model, each run as `python -m examples.NAME`."""
