"""VNC's password scheme (RFC 6143 7.2.2). It keeps honest people out, no more.

Single DES, which exists today only as triple DES with three equal keys. A password has at
most eight significant bytes; in the key, the bits of each byte are reversed.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

CHALLENGE_BYTES = 16
"""Length of a challenge and of its response."""
SIGNIFICANT_BYTES = 8
"""What follows in a password is ignored, by every VNC program."""

_PASSWORD_FILE_KEY = bytes((23, 82, 107, 6, 35, 78, 88, 7))


def response(challenge: bytes, password: str) -> bytes:
    """Answers a server's challenge.

    Args:
        challenge: The 16 bytes that the server sent.
        password: Of its UTF-8, the first eight bytes count.

    Returns:
        16 bytes.
    """
    return _encrypt(_significant(password), challenge)


def obfuscate(password: str) -> bytes:
    """Returns the content of an Xvnc ``PasswordFile``: 8 bytes, which anyone can undo."""
    return _encrypt(_PASSWORD_FILE_KEY, _significant(password))


def _significant(password: str) -> bytes:
    return password.encode()[:SIGNIFICANT_BYTES].ljust(SIGNIFICANT_BYTES, b"\0")


def _encrypt(key: bytes, plain: bytes) -> bytes:
    reversed_key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    cipher = Cipher(TripleDES(reversed_key * 3), modes.ECB())  # noqa: S305  the protocol's choice
    encryptor = cipher.encryptor()
    return encryptor.update(plain) + encryptor.finalize()
