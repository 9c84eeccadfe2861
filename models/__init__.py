"""Torch modules, one file a method; they import nothing of the rest of vidprep."""
