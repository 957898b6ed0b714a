"""Asks a controller as clients of the original Voltadomar do.

usage: original_client.py HOST:PORT COMMAND

Prints the code on the first line and the output after it. The two messages
are encoded by hand, so that nothing but grpcio is needed.
"""

import sys

import grpc


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def request(command):
    """Request{ string command = 1; }"""
    data = command.encode("utf-8", "surrogateescape")
    return b"\x0a" + varint(len(data)) + data


def read_varint(data, at):
    n = shift = 0
    while True:
        b = data[at]
        at += 1
        n |= (b & 0x7F) << shift
        shift += 7
        if b < 0x80:
            return n, at


def response(data):
    """Response{ int32 code = 1; string output = 2; }"""
    code, output, at = 0, "", 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag == 0x08:
            code, at = read_varint(data, at)
        elif tag == 0x12:
            size, at = read_varint(data, at)
            output = data[at : at + size].decode("utf-8")
            at += size
        else:
            raise ValueError("unknown field tag %#x" % tag)
    return code, output


def main():
    address, command = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            "/AnycastService/UserRequest",
            request_serializer=request,
            response_deserializer=response,
        )
        code, output = ask(command, timeout=10)
    print(code)
    print(output, end="")


main()
