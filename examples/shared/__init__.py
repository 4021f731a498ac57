"""Parts of models and of training that several tasks have in common."""
