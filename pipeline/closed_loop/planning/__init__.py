"""Before day 2: which image comes when, and what the day could detect."""
