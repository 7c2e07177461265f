"""What a user types: each module parses its arguments, calls the story and prints."""
