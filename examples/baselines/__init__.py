"""What stands beside the models: counts, linear models, naive forecasts, and a peer."""
