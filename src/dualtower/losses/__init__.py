"""Losses, one a file, each a function of tensors."""
