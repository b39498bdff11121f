"""Ours and the peers through one interface: each competitor works in fresh processes.

`environments` makes a virtual environment for each peer, `competitors` lists who competes with
which settings, `launch` starts the `run_*.py` scripts, which speak the protocol of `protocol`.
"""
