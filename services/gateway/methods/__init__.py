"""What an admitted connection may call, and how calls reach approval."""
