"""What a vendor is: its paths, models, errors, and how it reads a request."""
