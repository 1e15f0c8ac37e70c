"""Exact reads and writes, and outputs that appear whole."""
