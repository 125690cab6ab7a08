"""What the page asks the tables: each question returns plain values, ready for JSON."""
