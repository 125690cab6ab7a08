"""How sure a measure is, and whether one model is better than another."""
