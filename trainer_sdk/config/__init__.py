"""CONFIG: from JSON in any dialect to one typed model for each kind of job."""
