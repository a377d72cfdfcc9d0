"""Captioned videos -> a trained model."""
