"""The words of the field and the values that travel between the floors: frozen, and importing nothing of ours."""
