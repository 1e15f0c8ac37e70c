"""The one way to keep unfinished work: spans, each pooled into a shard, and the shards joined.

A shard is a file in the format of the output that holds the means of a span, and says so: its provenance
has the source's signature, the options, the version and the region. A shard or an output counts as done if
what it says of itself is what this run would write, and as a stranger otherwise, which nothing replaces.
Shards lie in a hidden folder beside the output, or, for `--slice`, where the user wants them; joined, they
are the bytes of a single run.
"""
