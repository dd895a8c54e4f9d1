"""Models: finds the classes that a configuration names, makes models of them, and describes each for the broker.

Order within the folder, lowest first: `packing`, `json_schema` and `installed`; `entry` and `loaded_model`; `finding`,
`examples` and `configuration`; `adapting`; `manager` and `reloading`. Nothing here knows calls, jobs or the broker's
connection: of this repository the folder imports only `cluster`.
"""
