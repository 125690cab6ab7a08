"""The worker: takes jobs, runs them in processes of their own, and reports."""
