"""Input and output; nothing here decides."""
