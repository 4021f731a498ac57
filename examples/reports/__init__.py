"""What came out, as tables and pictures; and the scores that these show."""
