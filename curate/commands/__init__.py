"""Commands of `curate`: each parses, makes one library call and prints."""
