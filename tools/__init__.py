"""Small programs that keep the pages in docs/ current."""
