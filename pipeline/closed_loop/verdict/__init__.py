"""Responses of neurons to their own images, compared: per neuron, over neurons, over days."""
