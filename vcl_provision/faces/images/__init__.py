"""What `vcl images` does between the repository, the database and whoever sits here."""
