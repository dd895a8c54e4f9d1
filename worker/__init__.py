"""A worker: one process that hosts models and answers the broker."""
