"""Files to Datasets and back, one module per source."""
