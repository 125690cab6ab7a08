"""The demo: a simulated mouse, one whole loop, and its score."""
