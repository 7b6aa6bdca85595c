"""Datasets to Datasets, lazily: clock, quality, scaling, patches, splits."""
