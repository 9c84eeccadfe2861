"""Compressed video: frames, block vectors, displacements and residuals. The only room that knows av and numba."""
