"""What a network is to predict, and what is made of it."""
