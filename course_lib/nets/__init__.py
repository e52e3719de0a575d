"""The networks, from their layers to whole models."""
