"""What the simulated model says: the same for the same request and seed, and fit for what was asked."""
