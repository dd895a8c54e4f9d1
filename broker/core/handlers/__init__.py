"""What a message of a client, a worker or an administrator makes the core do."""
