"""Back to the same cells: plan, package, audit, matching across days, and the verdict."""
