"""The server's own page: a query, its candidates arm by arm, and what an event changes."""
