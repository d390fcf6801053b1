"""Which items of an index are retrieved for which queries."""
