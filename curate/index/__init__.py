"""The index on disk: build, open, search, describe."""
