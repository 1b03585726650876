"""The running process: settings, ticks, workers, and what makes one of a reservation's turns."""
