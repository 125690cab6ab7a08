"""The package for the rig: files, manifest, photodiode pattern, and the player."""
