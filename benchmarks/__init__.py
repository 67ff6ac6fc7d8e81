"""Measurements, each one command; the figures that the docs quote come from here."""
