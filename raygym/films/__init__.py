"""Films of whole episodes, with contact sheets, made beside the game."""
