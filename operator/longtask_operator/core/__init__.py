"""Every decision, as pure functions over values; time and chance come in as arguments."""
