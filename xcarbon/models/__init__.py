"""Models on arrays and tensors; they know nothing of xarray."""
