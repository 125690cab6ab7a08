"""Names that tables and methods share; they stand apart from code that is slow to import."""

THROUGH = ("field", "stack", "combined")
"""Whose pairs a verdict reads: those of the fields themselves, of the stacks, or of both."""

LUMINANCE = ("mean_cd_m2", "sd_cd_m2", "clipped_fraction")
"""Columns of an image as the monitor shows it."""
