"""An authenticator of software: it makes passkeys and signs with them as a browser's would, genuinely or bent.

Each `bent` argument replaces one part of a response before it is signed, so that all the rest of it is right.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORIGIN = "http://localhost:8000"
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
"""User present, user verified, backup eligible, backed up, attested credential, extensions."""

type Algorithm = Literal["ES256", "EdDSA", "RS256"]
type Json = dict[str, Any]
type PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass
class Credential:
    """A passkey as its authenticator keeps it."""

    key: PrivateKey
    id: bytes
    user_handle: bytes
    counter: int = 0

    def sign(self, data: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(data, ec.ECDSA(SHA256()))
            case ed25519.Ed25519PrivateKey():
                return self.key.sign(data)
            case rsa.RSAPrivateKey():
                return self.key.sign(data, PKCS1v15(), SHA256())


@dataclass
class Authenticator:
    """Somebody's device, with the browser in front of it."""

    algorithm: Algorithm = "ES256"
    origin: str = ORIGIN
    rp_id: str = "localhost"
    flags: int = UP | UV | BE | BS
    counts: bool = False
    """Whether it has a counter; those of passkeys that are copied to other devices have none."""
    credentials: list[Credential] = field(default_factory=list)

    def create(self, options: Mapping[str, Any], **bent: Any) -> Json:
        """Return what `navigator.credentials.create(options).toJSON()` would."""
        credential = Credential(
            new_key(self.algorithm), secrets.token_bytes(bent.get("id_bytes", 32)), decoded(options["user"]["id"])
        )
        self.credentials.append(credential)
        public = bent.get("public_key", cose(credential.key))
        attested = bytes(16) + len(credential.id).to_bytes(2) + credential.id + public
        data = self._data(credential, bent, flags=self.flags | AT) + attested
        client_data = self._client_data("webauthn.create", options, bent)
        statement: Json = bent.get("statement", {})
        if bent.get("format") == "packed" and "statement" not in bent:
            maker = Credential(new_key("ES256"), b"", b"") if bent.get("certified") else credential
            signed = maker.sign(data + hashlib.sha256(client_data).digest())
            statement = {"alg": cbor2.loads(public)[3], "sig": signed}
            if maker is not credential:
                statement["x5c"] = [certificate_of(maker.key)]
        attestation = {"fmt": bent.get("format", "none"), "attStmt": statement, "authData": data}
        response = {
            "clientDataJSON": encoded(client_data),
            "attestationObject": encoded(bent.get("attestation", cbor2.dumps(attestation))),
            "transports": ["internal", "hybrid"],
        }
        shown = bent.get("shown_id", credential.id)
        return {"id": encoded(shown), "rawId": encoded(shown), "type": "public-key", "response": response,
                "clientExtensionResults": {}, "authenticatorAttachment": "platform"}  # fmt: skip

    def get(self, options: Mapping[str, Any], *, credential: Credential | None = None, **bent: Any) -> Json:
        """Return what `navigator.credentials.get(options).toJSON()` would, of the newest passkey if none is given."""
        credential = credential or self.credentials[-1]
        credential.counter += self.counts
        data = bent.get("data", self._data(credential, bent, flags=self.flags))
        client_data = self._client_data("webauthn.get", options, bent)
        signer: Credential = bent.get("signer", credential)
        signature = signer.sign(data + hashlib.sha256(client_data).digest())
        handle: bytes | None = bent.get("user_handle", credential.user_handle)
        response = {
            "clientDataJSON": encoded(client_data),
            "authenticatorData": encoded(data),
            "signature": encoded(bent.get("signature", signature)),
            "userHandle": None if handle is None else encoded(handle),
        }
        shown = bent.get("shown_id", credential.id)
        return {"id": encoded(shown), "rawId": encoded(shown), "type": "public-key", "response": response,
                "clientExtensionResults": {}, "authenticatorAttachment": "platform"}  # fmt: skip

    def _data(self, credential: Credential, bent: Json, *, flags: int) -> bytes:
        party = hashlib.sha256(bent.get("rp_id", self.rp_id).encode()).digest()
        counter: int = bent.get("counter", credential.counter)
        return party + bytes([bent.get("flags", flags)]) + counter.to_bytes(4)

    def _client_data(self, kind: str, options: Mapping[str, Any], bent: Json) -> bytes:
        said = {
            "type": bent.get("type", kind),
            "challenge": bent.get("challenge", options["challenge"]),
            "origin": bent.get("origin", self.origin),
            "crossOrigin": bent.get("cross_origin", False),
        }
        text: bytes = bent.get("client_data", json.dumps(said).encode())
        return text


def new_key(algorithm: Algorithm) -> PrivateKey:
    """Return a fresh key."""
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case "RS256":
            return rsa.generate_private_key(65537, 2048)


def cose(key: PrivateKey) -> bytes:
    """Return the public key as COSE has it (RFC 9053)."""
    match key:
        case ec.EllipticCurvePrivateKey():
            numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
            curve = {256: 1, 384: 2}[key.key_size]
            x, y = numbers.x.to_bytes(size), numbers.y.to_bytes(size)
            return cbor2.dumps({1: 2, 3: -7, -1: curve, -2: x, -3: y})
        case ed25519.Ed25519PrivateKey():
            return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)})
        case rsa.RSAPrivateKey():
            public = key.public_key().public_numbers()
            modulus = public.n.to_bytes((key.key_size + 7) // 8)
            return cbor2.dumps({1: 3, 3: -257, -1: modulus, -2: public.e.to_bytes(3)})


def certificate_of(key: PrivateKey) -> bytes:
    """Return a certificate as the maker of a device has one, signed by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Maker")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    now = datetime.now(UTC)
    dated = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return dated.sign(key, SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None).public_bytes(Encoding.DER)


def encoded(data: bytes) -> str:
    """Return bytes as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return urlsafe_b64decode(f"{text}===")
