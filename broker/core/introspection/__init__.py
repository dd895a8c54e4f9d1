"""The procedures that the broker answers itself, and the OpenRPC document."""
