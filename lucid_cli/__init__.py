"""The command `lucid-pool`."""

# Another distribution called `lucid` puts its files where ours are, so the import is checked before it is relied on.
try:
    import lucid

    _is_ours = "pool_file" in getattr(lucid, "__all__", ())
except ImportError:
    _is_ours = False
if not _is_ours:
    raise SystemExit(
        "lucid-pool: the package `lucid` is not the one that lucid-pool came with, as after `pip install lucid`; "
        "mend it with: pip uninstall -y lucid; pip install --force-reinstall lucid-pool"
    )
