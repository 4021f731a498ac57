"""The calls are imported where they are made: that takes seconds, and of several workers one makes them."""

collect_ignore_glob = ["*calls.py"]
