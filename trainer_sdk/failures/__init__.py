"""What can go wrong around a job: looked at beforehand, named afterwards, with its evidence."""
