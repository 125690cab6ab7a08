"""The tissue and how two-photon microscopes see it: movies, motion, stacks, TIFF files."""
