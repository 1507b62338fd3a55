"""What the benches share: a cluster with fake nodes, the operator beside it, loads, readings and results."""
