"""LongTask: runs long tasks for many tenants, one Kubernetes Job per attempt."""

__version__ = "0.1.0"
