"""Lazy preparation of Datasets for models: hours, quality mask, scaling, patches, static features, splits."""
