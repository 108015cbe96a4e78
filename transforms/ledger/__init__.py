"""Count what happens to every record, and commit counts and files as the proof that nothing was lost."""
