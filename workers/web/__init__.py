"""The page on which loops are watched and cells are judged: served from the package itself."""
