"""Flash games: Ruffle in Chromium on an X screen."""
