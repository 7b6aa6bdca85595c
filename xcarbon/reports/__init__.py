"""Pages of text, tables and figures, and the report on the carbon budget of towers."""
