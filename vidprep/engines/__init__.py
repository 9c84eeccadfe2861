"""Run a function over many tasks: ``map_unordered(function, tasks)``."""
