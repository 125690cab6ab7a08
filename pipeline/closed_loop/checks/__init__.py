"""Checks of a verdict: do matched cells agree, was the animal awake, did the field drift."""
