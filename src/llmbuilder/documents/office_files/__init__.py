"""Office files read from their own XML: Word, PowerPoint, Excel and the OpenDocument formats."""
