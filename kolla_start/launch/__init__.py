"""From a configured container to the service: the steps after the plan, and the last exec.

On the container-start path. Nothing in this room decides what is configured.
"""
