"""The benchmark: this cluster beside what else could be run, in one go on one machine."""
