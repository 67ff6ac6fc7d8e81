"""Online experiments: who sees which arm, what came of it, and what may be concluded from it."""
