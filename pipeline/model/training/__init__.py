"""Training of encoders: the methods, the loop over epochs, checkpoints, borrowed cores."""
