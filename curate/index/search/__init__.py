"""Searching an index: the exact scan, the FAISS file, and which of them a search takes."""
