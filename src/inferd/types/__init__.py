"""The values that rooms hand each other. No behaviour beyond what a value knows of itself."""
