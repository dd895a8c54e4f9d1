"""The routing core: decides, and never acts. It imports no socket, no clock and no library beside the parsers."""
