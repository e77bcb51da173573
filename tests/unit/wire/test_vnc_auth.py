from __future__ import annotations

from raygym.wire import vnc_auth

CHALLENGE = bytes(range(16))


def test_a_password_file_holds_what_vncpasswd_writes():
    assert vnc_auth.obfuscate("password").hex() == "dbd83cfd727a1458"


def test_a_response_is_the_challenge_encrypted_with_des_and_a_mirrored_key():
    # Two DES blocks, computed with OpenSSL: des-ecb, key = the mirrored bytes of "secret12".
    assert vnc_auth.response(CHALLENGE, "secret12").hex() == "adcd997f8e16fee575e973f93c2b62b4"


def test_only_eight_bytes_of_a_password_count():
    assert vnc_auth.response(CHALLENGE, "12345678") == vnc_auth.response(CHALLENGE, "123456789")
    assert vnc_auth.response(CHALLENGE, "1234567") != vnc_auth.response(CHALLENGE, "12345678")


def test_both_halves_of_a_challenge_are_answered():
    assert len(vnc_auth.response(bytes(16), "a")) == vnc_auth.CHALLENGE_BYTES
    assert vnc_auth.response(bytes(16), "a")[:8] == vnc_auth.response(bytes(16), "a")[8:]


def test_letters_beyond_ascii_are_utf_8():
    assert vnc_auth.obfuscate("é" * 4) == vnc_auth.obfuscate("é" * 5)
    assert vnc_auth.obfuscate("é" * 3) != vnc_auth.obfuscate("é" * 4)
