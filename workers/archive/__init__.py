"""A paper's archive: rows of one loop as open files, with the files of the store, out and in."""
