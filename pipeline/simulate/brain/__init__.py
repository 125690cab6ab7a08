"""Neurons of known receptive fields: filters, rates, spikes, fluorescence, and behavior."""
