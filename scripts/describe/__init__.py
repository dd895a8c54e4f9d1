"""What can be made of the document that describes a service: a page to read, and a typed client."""
