"""A live job on this machine: how it is started, watched and stopped."""
