#!/usr/bin/env python3
"""Makes the vectors of tests/encrypted.rs with another implementation than Causeway's: Python's `cryptography`.

    python3 make_vectors.py            makes the test key pairs and python.tar beside this file
    python3 make_vectors.py open FILE  opens an encrypted export with the test key, and prints what is in it

The keys are for tests only: everybody has them.
"""

import io
import pathlib
import sys
import tarfile

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HERE = pathlib.Path(__file__).parent
OAEP = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
PEM = serialization.Encoding.PEM


def key_pair(name, form, bits=2048):
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    private = key.private_bytes(PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (HERE / f"{name}-private.pem").write_bytes(private)
    (HERE / f"{name}-public.pem").write_bytes(public)
    return key, public


def seal(plaintext, key, public):
    data_key = Fernet.generate_key()
    members = {
        "export.json": Fernet(data_key).encrypt(plaintext),
        "data.key": key.public_key().encrypt(data_key, OAEP),
        "key.pub": public,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def unseal(path, private):
    key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    assert sorted(members) == ["data.key", "export.json", "key.pub"], sorted(members)
    return Fernet(key.decrypt(members["data.key"], OAEP)).decrypt(members["export.json"])


if sys.argv[1:2] == ["open"]:
    sys.stdout.buffer.write(unseal(sys.argv[2], HERE / "test-key-private.pem"))
else:
    key, public = key_pair("test-key", serialization.PrivateFormat.PKCS8)
    key_pair("other-test-key", serialization.PrivateFormat.TraditionalOpenSSL)
    key_pair("weak-test-key", serialization.PrivateFormat.PKCS8, 1024)
    (HERE / "weak-test-key-private.pem").unlink()
    (HERE / "python.tar").write_bytes(seal((HERE / "export.json").read_bytes(), key, public))
