"""Benches: what LongTask must hold under load, measured on a cluster with fake nodes. `python -m bench` runs all."""
