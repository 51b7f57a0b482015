"""Where clean files become tables: one module per warehouse."""
