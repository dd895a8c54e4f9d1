"""Models: finds the classes that a configuration names, makes models of them, and describes each for the broker.

Order within the folder, lowest first: `packing`, `representable`, `installed` and `own_metrics`; `json_schema`, `entry`
and `loaded_model`; `gevent_checks`, `loadable`, `examples` and `configuration`; `finding`; `adapting`; `manager` and
`reloading`. Nothing here knows calls, jobs or the broker's
connection: of this repository the folder imports only `cluster`.
"""
