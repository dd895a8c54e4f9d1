"""The process that a worker is: its signals, its end, and what it lends to the libraries of its models.

Nothing here knows models, jobs or the broker: of this repository the folder imports only `cluster`.
"""
