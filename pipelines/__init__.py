"""Jobs that can be launched: wiring and options only."""
