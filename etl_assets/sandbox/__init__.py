"""Simulated vendors: real HTTP servers on loopback that answer as the vendors' APIs do.

One file per vendor. Nothing here is imported by the pipeline, and nothing here imports the pipeline: what a
simulator knows of an API comes from the API's documentation, so that the two can disagree.
"""
