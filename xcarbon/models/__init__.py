"""Models on numpy arrays and torch tensors; this package does not use xarray."""
