"""The loops: read, ask the core, carry out."""
