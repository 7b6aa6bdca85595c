"""Functions from Dataset to Dataset, computed lazily, which prepare data for models and scores.

Examples are the quality mask (``quality``), the fusion of records (``fuse``), scaling (``scale``), the
split of towers (``split``) and the memory of the weather (``memory``); ``inputs`` combines them to the
inputs of a model. This folder may import ``core``.
"""
