"""What happens to a reservation, as decisions: no SQL, no threads, no clock. Time and answers are handed in."""
