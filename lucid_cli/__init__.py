"""The command `lucid-pool`."""
