"""Tests of the simulated vendors: every promise of their fact sheets, over real sockets."""
