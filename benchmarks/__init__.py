"""Benchmarks: the suite of layers and their peers, `python -m benchmarks`, and one question a file beside it."""
