"""What Redis keeps: records, the change log, presence and sessions."""
