"""Benchmarks for asv: each is a ratio against a stated alternative, measured in the same run."""
