"""The MDS of a test cluster: one rank, all in memory, pure. What it lacks of a real one is told in docs/testing.md."""
