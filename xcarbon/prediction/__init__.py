"""Apply trained models to Datasets: lazily, region by region to a file, and with explanations."""
