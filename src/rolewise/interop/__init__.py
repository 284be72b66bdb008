"""Adapters to other packages, each optional and in a module of its own."""
