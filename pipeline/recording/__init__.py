"""The recording format: what a rig hands over, read and checked."""
