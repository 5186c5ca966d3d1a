"""Stand-ins for what surrounds a job: the platform's backend and its object storage, as real servers."""
