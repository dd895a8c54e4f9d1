"""The worker's message loop: the connection to the broker, the threads that run the loop, and the watch over them.

Order within the folder, lowest first: `leadership` and `watchdog`; `connection` (the only module of the worker that
touches ZeroMQ); `session` and `loader`; `load_orders`; `message_loop`; `server`. Of this repository the folder imports
`worker.jobs`, `worker.models`, `worker.settings` and `cluster`.
"""
