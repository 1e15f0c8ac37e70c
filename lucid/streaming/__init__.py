"""Pooling larger than memory: a pure plan of blocks, and the engine that runs it."""
