"""The wire format: ZeroRPC events, and the messages between broker and worker. Pure: bytes in, values out."""
