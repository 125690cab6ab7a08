"""The queue of jobs: its tables, leases, order, refresh and urgency."""
