"""Who holds which Remote, until when, and what goes when nobody holds it."""
