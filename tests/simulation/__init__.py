"""Simulated worlds around the real routing core: clients, workers, time and faults, with invariants after each step."""
