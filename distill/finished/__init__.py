"""Finished models of any kind (a teacher, a run, an export), asked about images; and what they reject."""
