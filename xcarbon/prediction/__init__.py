"""Predictions of trained models for Datasets, and the importance of their inputs.

``predict`` predicts lazily: it handles the labels, and ``blocks`` is the Dask graph and the kernel.
``files`` writes predictions region by region, and ``explain`` computes the importance of inputs. This
folder may import ``training`` and the folders below it.
"""
