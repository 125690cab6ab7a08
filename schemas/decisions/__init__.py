"""What a person or a recipe decides: recipes, tasks of a loop, another day, ingest."""
