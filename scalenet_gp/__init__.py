"""ScaleNet for gunpowder."""
