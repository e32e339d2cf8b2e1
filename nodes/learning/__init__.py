"""Networks in a pipeline: training and prediction."""
