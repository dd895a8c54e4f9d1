"""Everything of the broker that acts: the message loop, the state file, the process."""
