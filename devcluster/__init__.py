"""A real Kubernetes cluster as plain processes, for development and tests: no Docker, standard library only."""
