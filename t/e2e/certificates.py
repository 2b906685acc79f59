"""Certificates for tests, made when they are needed and never kept: an authority, leaves of every
kind, chains, OCSP responses.

    ca = Authority("tests")
    site = ca.leaf(["example.com", "*.example.com"])            # ECDSA P-256
    other = ca.leaf(["example.com"], kind="rsa", days=-1)       # expired
    site.write(folder, "site")                                  # site.pem (with chain), site.key
"""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def new_key(kind):
    """ecdsa, ecdsa384, ed25519, rsa, or rsaBITS."""
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ecdsa384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind[3:] or 2048))


def signature_hash(key):
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def general_name(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def now():
    return datetime.datetime.utcnow().replace(microsecond=0)


class Identity:
    """A certificate with its key, and the intermediate ones that lead to the root."""

    def __init__(self, certificate, key, chain):
        self.certificate = certificate
        self.key = key
        self.chain = chain

    @property
    def pem(self):
        """The leaf and its chain."""
        return b"".join(one.public_bytes(PEM) for one in [self.certificate, *self.chain])

    @property
    def key_pem(self):
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())

    @property
    def fingerprint(self):
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def not_after(self):
        """Seconds since 1970."""
        return int(self.certificate.not_valid_after.replace(
            tzinfo=datetime.timezone.utc).timestamp())

    def write(self, folder, name):
        """FOLDER/NAME.pem and FOLDER/NAME.key, each replaced as a whole. Gives their paths."""
        paths = []
        for suffix, content in ((".pem", self.pem), (".key", self.key_pem)):
            path = os.path.join(str(folder), name + suffix)
            with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                      "wb") as out:
                out.write(content)
            os.rename(path + ".new", path)
            paths.append(path)
        return paths


class Authority:
    """A root; its leaves are signed by it, or by an intermediate one."""

    def __init__(self, name="gatehouse tests", parent=None):
        self.key = new_key("ecdsa")
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.parent = parent
        issuer = parent or self
        builder = (x509.CertificateBuilder().subject_name(self.name).issuer_name(issuer.name)
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now() - datetime.timedelta(days=2))
                   .not_valid_after(now() + datetime.timedelta(days=3650))
                   .add_extension(x509.BasicConstraints(True, None), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(
                       self.key.public_key()), False))
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(PEM)

    def write(self, folder, name="ca"):
        path = os.path.join(str(folder), name + ".pem")
        with open(path, "wb") as out:
            out.write(self.pem)
        return path

    def leaf(self, names, kind="ecdsa", days=90, key=None, subject=None, client=False,
             starts=None):
        """`days`: until it expires; negative: since it has. `starts`: days until it begins."""
        key = key or new_key(kind)
        subject = subject or (names[0] if names else "nobody")
        begins = now() + datetime.timedelta(days=-1 if starts is None else starts)
        ends = now() + datetime.timedelta(days=days)
        begins = min(begins, ends - datetime.timedelta(days=1))
        usage = (ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (x509.CertificateBuilder()
                   .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
                   .issuer_name(self.name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(begins).not_valid_after(ends)
                   .add_extension(x509.BasicConstraints(False, None), True)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.key.public_key()), False)
                   .add_extension(x509.ExtendedKeyUsage([usage]), False))
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in names]), False)
        chain = []
        above = self
        while above.parent:
            chain.append(above.certificate)
            above = above.parent
        return Identity(builder.sign(self.key, hashes.SHA256()), key, chain)

    def crl(self, revoked=()):
        """PEM of a revocation list with these leaves on it."""
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.name)
                   .last_update(now() - datetime.timedelta(hours=1))
                   .next_update(now() + datetime.timedelta(days=7)))
        for identity in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(identity.certificate.serial_number)
                .revocation_date(now()).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)

    def ocsp(self, identity, days=7, revoked=False):
        """DER of a response about a leaf of this authority."""
        status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        builder = ocsp.OCSPResponseBuilder().add_response(
            identity.certificate, self.certificate, hashes.SHA1(), status,
            now() - datetime.timedelta(hours=1), now() + datetime.timedelta(days=days),
            now() if revoked else None, None)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(DER)
