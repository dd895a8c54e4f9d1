"""Attacks on a real cluster, each beside an honest stock client: rows 45 and up of the table of faults."""
