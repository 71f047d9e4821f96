"""One step after the other: batches, loss, optimizers, schedules, snapshots, bad steps, the time allowed."""
