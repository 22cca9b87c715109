"""From a file to a declared problem: read it, say what it is, and write what a person then edits."""
