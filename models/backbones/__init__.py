"""Backbones that the methods stand on."""
