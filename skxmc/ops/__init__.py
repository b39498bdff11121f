"""Row tables: vectors that are read and updated sparsely, on either engine."""
