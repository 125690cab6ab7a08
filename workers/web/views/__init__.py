"""What the page answers: addresses, and the templates that they fill."""
