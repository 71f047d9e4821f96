"""One text at a time: cleaning, redaction, quality, languages, contamination."""
