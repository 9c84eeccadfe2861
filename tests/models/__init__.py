"""A package, so that other rooms' tests may have files of the same names."""
