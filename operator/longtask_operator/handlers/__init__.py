"""The only importers of Kopf; each handler puts a key into a queue and returns."""
