"""Pages of text, tables and figures, and the report on the carbon budget of towers.

This folder may import ``budget``, ``plotting``, ``prediction`` and the folders below it.
"""
