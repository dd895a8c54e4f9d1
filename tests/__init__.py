"""The tests: `unit` needs no process and no socket, `integration` runs the real ones."""
