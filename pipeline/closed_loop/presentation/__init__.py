"""What was really shown: whether a recording answers a package, trial by trial."""
