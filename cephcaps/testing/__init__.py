"""A Ceph file system cluster in one process, for tests: a monitor and an MDS that real clients accept."""
