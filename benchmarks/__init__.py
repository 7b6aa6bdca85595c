"""Benchmarks: each result is a ratio to a stated alternative, measured in the same run."""
