"""Serving: candidates over HTTP, one query at a time."""
