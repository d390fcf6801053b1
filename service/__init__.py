"""Retrieval over HTTP: FastAPI over an open index."""
