"""From a pool of images to an index, and from an index and a few queries to a transfer set."""
