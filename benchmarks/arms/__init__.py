"""The two arms of bench `lifecycle`, each the main module of a process of its own."""
