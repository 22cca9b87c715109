"""The arms of benches that need a process of their own, each its main module."""
