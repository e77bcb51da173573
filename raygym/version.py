"""The version of raygym, and of the images that belong to it."""

VERSION = "0.1.0"
