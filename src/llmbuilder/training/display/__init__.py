"""What people see of a run, and other programs: callbacks, progress, metrics and report, samples, tracking services."""
