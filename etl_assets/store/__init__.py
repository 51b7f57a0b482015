"""Where the files of the landing lie: one module per kind of storage."""
