"""A deployment as a whole: database, store, home and raw files, and whether they fit together."""
