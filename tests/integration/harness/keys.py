"""Encrypted repositories: keys, and what lies in encrypted objects, by `openssl` and not by pgvigil.

With PGVIGIL_TEST_ENCRYPTION=1 in the environment the repositories of all sites are encrypted for a pair of keys that the
run makes. Tests look at objects through here then: `stored` is how an object's file is called, `opened` what is in it.
"""

import functools
import os
import subprocess

from . import system

VARIABLE = "PGVIGIL_TEST_ENCRYPTION"
SUFFIX = ".cms"
_SEQUENCE = 0x30  # the first byte of a CMS structure; zstd frames begin with another one


def wanted():
    """Are the repositories of this run encrypted?"""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def pair(directory, name, *options, newkey=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
    """A private key and its certificate, <directory>/<name>.key and .crt; options are of `openssl req`."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    protect = () if "-passout" in options else ("-nodes",)
    system.run(["openssl", "req", "-x509", "-newkey", *newkey, *protect, "-subj", f"/CN={name}", "-days", "2",
                "-keyout", key, "-out", certificate, *options])
    key.chmod(0o600)
    return key, certificate


@functools.lru_cache(maxsize=None)
def usual():
    """The pair that repositories are encrypted for, made once in a process."""
    return pair(system.new_dir("keys"), "usual")


def section(*pairs):
    """Keys of [encryption] for these pairs, by default for the usual one."""
    pairs = pairs or (usual(),)
    return {"recipients": ", ".join(str(certificate) for _, certificate in pairs),
            "identity": ", ".join(str(key) for key, _ in pairs)}


def stored(name):
    """How an object (or pattern of objects) that is encrypted where repositories are is called in this run."""
    return name + SUFFIX if wanted() else name


def called(name):
    """How pgvigil calls the object of that file name in lists and messages: the same whether it is encrypted or not."""
    return str(name).removesuffix(SUFFIX)


def structures(data):
    """The CMS structures that data begins with."""
    while data[:1] == bytes([_SEQUENCE]):
        width = data[1] & 0x7F if data[1] & 0x80 else 0
        length = 2 + width + (int.from_bytes(data[2:2 + width], "big") if width else data[1])
        yield data[:length]
        data = data[length:]


def opened(data, key=None):
    """What is in an object that may be encrypted (or in its first bytes): its trailer is not."""
    parts = list(structures(data))
    if not parts:
        return data
    return b"".join(_openssl("cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", key or usual()[0], given=part)
                    for part in parts)


def sealed(data, certificate=None):
    """Data as one CMS structure, for a certificate."""
    return _openssl("cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER", "-recip",
                    certificate or usual()[1], "-keyopt", "ecdh_kdf_md:sha256", given=data)


def unpacked(data, key=None):
    """Raw bytes of a compressed object."""
    return subprocess.run(["zstd", "-dqc"], input=opened(data, key), stdout=subprocess.PIPE, check=True).stdout


def _openssl(*args, given):
    return subprocess.run(["openssl", *map(str, args)], input=given, stdout=subprocess.PIPE, check=True).stdout
