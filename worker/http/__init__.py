"""The worker's HTTP pages: metrics, health and readiness. Reads what the other folders know, and changes nothing.

It stands above them: no other folder of the worker imports it. Of this repository it imports `worker.loop`,
`worker.jobs` and `cluster`.
"""
