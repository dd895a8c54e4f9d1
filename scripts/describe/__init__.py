"""Makes a page and a typed client from the document that describes a service."""
