#!/usr/bin/env python3
"""The measurement type "ntp": asks a time server for its stratum and source.

A plugin for Voltadomar that knows plugins/proto/voltadomar/plugin/v1/plugin.proto
and nothing else of it. See README.md.
"""

import base64
import datetime
import ipaddress
import os
import struct
import sys
import threading
from concurrent import futures

# The host runs a copy of this file in memory; what was made from the proto is
# beside the original.
sys.path.insert(0, os.path.dirname(os.environ.get("VOLTADOMAR_PLUGIN", os.path.abspath(__file__))))

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from voltadomar.plugin.v1 import plugin_pb2 as pb

COOKIE = "d6b9e1f2-probe"
VERSION = 1
MAX_MESSAGE = 2 << 20

PORT = 123
SOURCE_PORT, FLOWS = 61440, 256
UDP = 17
FRAGMENT = 44
EXTENSIONS = (0, 43, FRAGMENT, 60)  # of IPv6, which may come before UDP
UDP_HEADER, NTP_HEADER, IDENTITY = 8, 48, 12
MAX_SIZE = 65000

# A last extension field has at least 28 bytes (RFC 7822). Types from 0xF000 on
# are for experiments; servers pass over those that they do not know.
FIELD_TYPE, FIELD = 0xF7D0, 28

# What servers send back is the transmit timestamp (RFC 5905): here the low 48
# bits of the tag and the ID. The veil makes them look different, so that a
# quote that ends there does not seem to end with the identity.
TAG_BITS = 48
VEIL = 0x5555555555555555


class Refused(Exception):
    """A probe that cannot be built as asked."""


def checksum(*parts):
    """The ones' complement sum of 16-bit words (RFC 1071); parts are even."""
    total = 0
    for part in parts:
        part += b"\0" * (len(part) % 2)
        total += sum(struct.unpack(f"!{len(part) // 2}H", part))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def show(address):
    """An address, given in bytes, as people read it."""
    if not address:
        return "missing"
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(ip)


def build(group, src, dst, ticket, tag):
    """The datagram that asks one probe."""
    if len(src) not in (4, 16) or len(src) != len(dst):
        raise Refused(f"source {show(src)}, destination {show(dst)}: want two addresses of one family")
    v6 = len(dst) == 16
    ip_header = 40 if v6 else 20
    ident, ttl, flow = ticket >> 16, ticket >> 8 & 0xFF, ticket & 0xFF
    least = ip_header + UDP_HEADER + NTP_HEADER + FIELD
    size = group.size or least
    if not least <= size <= MAX_SIZE or size % 4:
        raise Refused(f"size {group.size}, want {least} to {MAX_SIZE} bytes in steps of 4")
    if group.mode > 1 or ident == 0 or ttl == 0:
        raise Refused(f"mode {group.mode}, identifier {ident}, TTL {ttl}: want mode 0 or 1, and neither 0")
    port = ident if group.mode == 1 else SOURCE_PORT + flow
    length = size - ip_header

    # Version 4, mode 3 (client), and otherwise zeros: servers need no more, and
    # learn no more (draft-ietf-ntp-data-minimization).
    timestamp = ((tag & (1 << TAG_BITS) - 1) << 16 | ident) ^ VEIL
    payload = struct.pack("!B39xQ", 4 << 3 | 3, timestamp)
    payload += struct.pack("!HH12x", FIELD_TYPE, length - UDP_HEADER - NTP_HEADER)
    at = len(payload)
    payload += struct.pack("!HHQ", 0, ident, tag)
    payload += bytes(length - UDP_HEADER - len(payload))

    sum16 = ident if v6 else tag & 0xFFFF or 0xFFFF
    udp = struct.pack("!HHHH", port, group.dst_port or PORT, length, sum16)
    rest = 0xFFFF - checksum(src, dst, struct.pack("!II", UDP, length), udp, payload)
    payload = payload[:at] + struct.pack("!H", rest) + payload[at + 2 :]

    if v6:
        first = 6 << 28 | group.tos << 20 | port
        return struct.pack("!IHBB", first, length, UDP, ttl) + src + dst + udp + payload
    fragment = 0x4000 if group.dont_fragment else 0
    header = struct.pack("!BBHHHBB", 0x45, group.tos, size, ident, fragment, ttl, UDP)
    return header + struct.pack("!H", 0xFFFF - checksum(header, src, dst)) + src + dst + udp + payload


def build_all(request):
    built = pb.Built()
    datagrams = []
    for group in request.groups:
        width = len(group.dsts) // max(1, len(group.tickets))
        for i, (ticket, tag) in enumerate(zip(group.tickets, group.tags, strict=True)):
            dst = group.dsts[i * width : (i + 1) * width] if group.dsts else group.dst
            try:
                datagram = build(group, group.src, dst, ticket, tag)
            except Refused as e:
                built.refusals.add(index=len(built.lengths), reason=str(e))
                datagram = b""
            datagrams.append(datagram)
            built.lengths.append(len(datagram))
    built.datagrams = b"".join(datagrams)
    return built


def udp_of(datagram):
    """Destination port and data of a UDP datagram, which may be cut short."""
    at = len(datagram)
    if len(datagram) >= 20 and datagram[0] >> 4 == 4:
        at = 4 * (datagram[0] & 15)
    elif len(datagram) >= 40 and datagram[0] >> 4 == 6:
        at, following = 40, datagram[6]
        while following in EXTENSIONS and at + 8 <= len(datagram):
            length = 8 if following == FRAGMENT else 8 * (datagram[at + 1] + 1)
            following, at = datagram[at], at + length
        if following != UDP:
            return 0, b""
    if len(datagram) < at + UDP_HEADER:
        return 0, b""
    _, port, length, _ = struct.unpack_from("!HHHH", datagram, at)
    return port, datagram[at + UDP_HEADER : at + length]


def read(datagram, detail):
    """ID, tag and values of an answer, or None."""
    port, data = udp_of(datagram)
    if len(data) < NTP_HEADER or data[0] & 7 != 4:  # mode 4: server
        return None
    _, stratum, _, _, delay, dispersion, reference, _, origin = struct.unpack_from("!BBbbII4sQQ", data)
    origin ^= VEIL
    ident = origin & 0xFFFF
    if ident == 0 or not (SOURCE_PORT <= port < SOURCE_PORT + FLOWS or port == ident):
        return None
    values = [("stratum", str(stratum))]
    if stratum > 1:
        values.append(("reference", str(ipaddress.IPv4Address(reference))))
    else:  # four letters: a clock, or a code that says to keep away
        text = reference.rstrip(b"\0").decode("ascii", "replace")
        values.append(("reference" if stratum else "kiss", text))
    if detail:
        values.append(("root-delay", f"{delay / 65.536:.3f} ms"))
        values.append(("root-dispersion", f"{dispersion / 65.536:.3f} ms"))
    return ident, origin >> 16, values


def match_all(request):
    matched = pb.Matched()
    detail = request.values.get("detail") == "true"
    at, bits = 0, []
    for index, length in enumerate(request.lengths):
        answer = read(request.datagrams[at : at + length], detail)
        at += length
        if answer is None:
            continue
        ident, tag, values = answer
        matched.indexes.append(index)
        matched.ids.append(ident)
        matched.tags.append(tag)
        bits.append(TAG_BITS)
        matched.values.add(index=index, values=[pb.Value(name=n, text=t) for n, t in values])
    matched.tag_bits = bytes(bits)
    return matched


DESCRIPTION = pb.Description(
    name="ntp",
    help="asks a time server for its stratum and where it has its time from",
    options=[
        pb.Option(name="detail", kind=pb.Option.KIND_BOOL, default="false", help="says also how far off the time may be")
    ],
    protocol=pb.PROTOCOL_UDP,
    port=PORT,
)


def answer(message):
    kind = message.WhichOneof("message")
    reply = pb.ToHost(request=message.request)
    if kind == "check":  # the host has checked all that there is to check
        reply.checked.CopyFrom(pb.Checked(port=PORT))
    elif kind == "build":
        reply.built.CopyFrom(build_all(message.build))
    elif kind == "match":
        reply.matched.CopyFrom(match_all(message.match))
    else:
        reply.failure = "a request that this plugin does not know"
    return reply


def certificate():
    """A new key and a certificate of its own, PEM and DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, cert.public_bytes(serialization.Encoding.PEM), cert.public_bytes(serialization.Encoding.DER)


def main():
    if os.environ.get("VOLTADOMAR_PLUGIN_COOKIE") != COOKIE:
        sys.exit('This is the measurement type "ntp". Give an agent --plugin with the path of this file.')
    ended = threading.Event()

    def session(requests, _):
        try:
            yield pb.ToHost(description=DESCRIPTION)
            for message in requests:
                yield answer(message)
        finally:
            ended.set()

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=2),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)],
    )
    handler = grpc.stream_stream_rpc_method_handler(session, pb.ToPlugin.FromString, pb.ToHost.SerializeToString)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("voltadomar.plugin.v1.Plugin", {"Session": handler})]
    )
    key, pem, der = certificate()
    credentials = grpc.ssl_server_credentials(
        [(key, pem)], root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(), require_client_auth=True
    )
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "plugin")
    server.add_secure_port("unix:" + path, credentials)
    server.start()
    encoded = base64.b64encode(der).decode().rstrip("=")
    print(f"1|{VERSION}|unix|{path}|grpc|{encoded}", flush=True)
    ended.wait()
    server.stop(0.5).wait()


if __name__ == "__main__":
    main()
