"""One step after the other: batches, loss, optimizers, schedules, what to do about bad steps, the time allowed."""
