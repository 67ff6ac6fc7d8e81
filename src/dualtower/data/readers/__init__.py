"""Public raw files into the plain tables that `prepare` reads, with a configuration beside them."""
