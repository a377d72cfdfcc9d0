"""Continues the training of a text tower on texts: masked-language modelling and contrast."""
