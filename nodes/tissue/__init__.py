"""Where in a volume there is tissue, told by its texture."""
