"""An ensemble at one state of the animal, and the fastest exact ways to read it."""
