"""Where files come from and go to: S3 or a folder, behind the same few verbs."""
