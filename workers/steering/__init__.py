"""What a person does to a running loop; verbs and pages call the same functions."""
