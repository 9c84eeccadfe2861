"""Recipes that a person runs: one file, read from top to bottom."""
