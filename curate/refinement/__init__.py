"""Retrieve again, with what a teacher says of the first transfer set."""
