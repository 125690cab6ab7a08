"""What lies in the store: whose it is, and whether it is what was written."""
