"""The tests: `unit` needs no process and no socket, `simulation`
runs worlds around the core, `integration` the real processes.
"""
