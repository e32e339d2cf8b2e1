"""Where samples are taken."""
