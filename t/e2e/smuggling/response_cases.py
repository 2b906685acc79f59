"""Raw upstream responses that two programs could read differently, and what the client is to see.

Each row of CASES is (name, method of the request, raw bytes, closes, verdict): the upstream answers
the request with these bytes in one send and then closes the connection or keeps it open.

Verdicts:
  seen(STATUS, body, reuse)   the client gets exactly this response; `reuse` says whether the next
                              exchange may and does go over the same upstream connection
  bad()                       the client gets one 502, the upstream connection is not used again
  cut(STATUS)                 the fault is in the body. Where the head was sent on before it showed,
                              the client's connection ends in the middle of the body, so that it
                              cannot take it for whole; else it gets one 502

Whatever is meant to be taken for another response says "smuggled"; the client never sees that word
in a response of its own, and the exchange after the case gets its own answer.
"""
from collections import namedtuple

Seen = namedtuple("Seen", "status body reuse fields")
Bad = namedtuple("Bad", "")
Cut = namedtuple("Cut", "status")


def seen(status, body, reuse, **fields):
    """`fields`: name (with _ for -) to the value the client must see, or None for absent."""
    return Seen(status, body, reuse, {name.replace("_", "-"): value for name, value in fields.items()})


def bad():
    return Bad()


def cut(status):
    return Cut(status)


SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
OK = b"HTTP/1.1 200 OK\r\n"
CL = b"Content-Length: "
CHUNKED = b"Transfer-Encoding: chunked\r\n"

CASES = []


def case(name, raw, verdict, method="GET", closes=False):
    assert name not in {row[0] for row in CASES}, f"two cases are called {name}"
    CASES.append((name, method, raw, closes, verdict))


# ---- Plain responses -----------------------------------------------------------------------------

case("plain_length", OK + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("plain_empty", OK + CL + b"0\r\n\r\n", seen(200, b"", True))
case("plain_chunked", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", seen(200, b"hello", True))
case("plain_until_close", OK + b"\r\nhello", seen(200, b"hello", False), closes=True)
case("plain_connection_close", OK + b"Connection: close\r\n" + CL + b"5\r\n\r\nhello", seen(200, b"hello", False), closes=True)
case("plain_http10", b"HTTP/1.0 200 OK\r\n" + CL + b"5\r\n\r\nhello", seen(200, b"hello", False), closes=True)
case("plain_http10_keep_alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("plain_no_phrase", b"HTTP/1.1 200\r\n" + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("plain_404", b"HTTP/1.1 404 Not Found\r\n" + CL + b"5\r\n\r\nhello", seen(404, b"hello", True))

# ---- Lengths -------------------------------------------------------------------------------------

case("cl_repeated", OK + CL + b"5\r\n" + CL + b"5\r\n\r\nhello", bad())
case("cl_repeated_differing", OK + CL + b"5\r\n" + CL + b"0\r\n\r\nhello", bad())
case("cl_list", OK + CL + b"5, 5\r\n\r\nhello", bad())
case("cl_plus", OK + CL + b"+5\r\n\r\nhello", bad())
case("cl_negative", OK + CL + b"-1\r\n\r\nhello", bad())
case("cl_hex", OK + CL + b"0x5\r\n\r\nhello", bad())
case("cl_empty", OK + CL + b"\r\n\r\nhello", bad())
case("cl_overflow", OK + CL + b"18446744073709551621\r\n\r\nhello", bad())
case("cl_letters", OK + CL + b"5 bytes\r\n\r\nhello", bad())
case("cl_and_te", OK + CL + b"5\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", bad())
case("te_and_cl", OK + CHUNKED + CL + b"5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", bad())
case("te_identity", OK + b"Transfer-Encoding: identity\r\n\r\nhello", bad(), closes=True)
case("te_list", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", bad())
case("te_twice", OK + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", bad())
case("te_twice_in_list", OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", bad())
case("te_unknown", OK + b"Transfer-Encoding: xchunked\r\n\r\nhello", bad(), closes=True)
case("te_http10", b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", bad(), closes=True)
case("te_space_before_colon", OK + b"Transfer-Encoding : chunked\r\n" + CL + b"5\r\n\r\nhello", bad())
case("cl_space_before_colon", OK + b"Content-Length : 5\r\n\r\nhello", bad())
case("cl_folded", OK + b"Content-Length:\r\n 5\r\n\r\nhello", bad())
case("connection_names_length", OK + b"Connection: Content-Length\r\n" + CL + b"5\r\n\r\nhello", bad())

# ---- The body and the length do not agree -----------------------------------------------------------

case("body_too_long", OK + CL + b"5\r\n\r\nhelloXXXX", seen(200, b"hello", False))
case("body_then_smuggled", OK + CL + b"5\r\n\r\nhello" + SMUGGLED, seen(200, b"hello", False))
case("empty_then_smuggled", OK + CL + b"0\r\n\r\n" + SMUGGLED, seen(200, b"", False))
case("chunked_then_smuggled", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, seen(200, b"hello", False))
case("body_too_short", OK + CL + b"50\r\n\r\nhello", cut(200), closes=True)
case("chunked_without_end", OK + CHUNKED + b"\r\n5\r\nhello\r\n", cut(200), closes=True)
case("head_without_end", OK + b"X: y\r\n", bad(), closes=True)
case("nothing", b"", bad(), closes=True)
case("until_close_with_smuggled", OK + b"\r\nhello" + SMUGGLED, seen(200, b"hello" + SMUGGLED, False), closes=True)

# ---- Chunks ------------------------------------------------------------------------------------------

for _name, _body in [
        ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"), ("space", b"5 \r\nhello\r\n0\r\n\r\n"), ("lf", b"5\nhello\n0\n\n"),
        ("negative", b"-5\r\nhello\r\n0\r\n\r\n"), ("overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("bare_semicolon", b"5;\r\nhello\r\n0\r\n\r\n"), ("ext_lf", b"5;a\nhello\r\n0\r\n\r\n"),
        ("data_too_long", b"4\r\nhello\r\n0\r\n\r\n"), ("data_lf", b"5\r\nhello\n0\r\n\r\n"),
        ("not_chunked", b"hello")]:
    case("chunk_" + _name, OK + CHUNKED + b"\r\n" + _body, cut(200))
case("chunk_ext", OK + CHUNKED + b'\r\n5;a="b"\r\nhello\r\n0;c\r\n\r\n', seen(200, b"hello", True))
case("chunk_trailer", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", seen(200, b"hello", True))
case("chunk_trailer_framing", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", seen(200, b"hello", True))

# ---- Responses that have no body, whatever they say ----------------------------------------------------

case("head_with_length", OK + CL + b"5\r\n\r\n", seen(200, b"", True, Content_Length="5"), method="HEAD")
case("head_chunked", OK + CHUNKED + b"\r\n", seen(200, b"", True), method="HEAD")
case("head_with_body", OK + CL + b"5\r\n\r\nhello", seen(200, b"", False), method="HEAD")
case("head_with_smuggled", OK + CL + b"%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, seen(200, b"", False), method="HEAD")
case("head_no_length", OK + b"\r\n", seen(200, b"", True), method="HEAD")
case("204", b"HTTP/1.1 204 No Content\r\n\r\n", seen(204, b"", True, Content_Length=None))
case("204_length_zero", b"HTTP/1.1 204 No Content\r\n" + CL + b"0\r\n\r\n", seen(204, b"", True, Content_Length=None))
case("204_with_length", b"HTTP/1.1 204 No Content\r\n" + CL + b"5\r\n\r\nhello", seen(204, b"", False, Content_Length=None))
case("204_with_smuggled", b"HTTP/1.1 204 No Content\r\n" + CL + b"%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
     seen(204, b"", False, Content_Length=None))
case("204_chunked", b"HTTP/1.1 204 No Content\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
     seen(204, b"", False, Transfer_Encoding=None))
case("304", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', seen(304, b"", True))
case("304_with_length", b"HTTP/1.1 304 Not Modified\r\n" + CL + b"5\r\n\r\n", seen(304, b"", True))
case("304_with_smuggled", b"HTTP/1.1 304 Not Modified\r\n" + CL + b"%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, seen(304, b"", False))

# ---- Interim responses -----------------------------------------------------------------------------------

case("interim_100", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("interim_103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("interim_several", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + OK + CL + b"5\r\n\r\nhello", seen(200, b"hello", True))
case("interim_endless", b"HTTP/1.1 102 Processing\r\n\r\n" * 5000, bad())
case("interim_with_length", b"HTTP/1.1 103 Early Hints\r\n" + CL + b"5\r\n\r\nhello" + SMUGGLED, bad())
case("interim_chunked", b"HTTP/1.1 103 Early Hints\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED, bad())
case("interim_with_body", b"HTTP/1.1 100 Continue\r\n\r\nhello" + SMUGGLED, bad())
case("interim_100_only", b"HTTP/1.1 100 Continue\r\n\r\n", bad(), closes=True)
case("101_unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + SMUGGLED, bad())

# ---- Status line and fields ----------------------------------------------------------------------------------

for _name, _raw in [
        ("status_two_digits", b"HTTP/1.1 20 OK\r\n\r\n"), ("status_four_digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("status_letters", b"HTTP/1.1 abc OK\r\n\r\n"), ("status_negative", b"HTTP/1.1 -20 OK\r\n\r\n"),
        ("status_600", b"HTTP/1.1 600 OK\r\n\r\n"), ("status_099", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("status_two_spaces", b"HTTP/1.1  200 OK\r\n\r\n"), ("version_20", b"HTTP/2.0 200 OK\r\n\r\n"),
        ("version_lower_case", b"http/1.1 200 OK\r\n\r\n"), ("version_none", b"200 OK\r\n\r\n"),
        ("http09", b"<html>hello</html>"), ("empty_line_before", b"\r\n" + OK + CL + b"5\r\n\r\nhello"),
        ("phrase_nul", b"HTTP/1.1 200 O\0K\r\n\r\n"), ("phrase_cr", b"HTTP/1.1 200 OK\rX: y\r\n\r\n"),
        ("lf_only", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        ("field_lf", OK + b"X: y\nSet-Cookie: smuggled\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_cr", OK + b"X: y\rSet-Cookie: smuggled\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_nul", OK + b"X: y\0\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_folded", OK + b"X: y\r\n z\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_no_colon", OK + b"X\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_empty_name", OK + b": y\r\n" + CL + b"5\r\n\r\nhello"),
        ("field_control", OK + b"X: \x01\r\n" + CL + b"5\r\n\r\nhello"),
        ("head_end_lf", OK + CL + b"5\r\n\nhello"), ("head_too_large", OK + b"X: " + b"y" * 100000 + b"\r\n\r\n")]:
    case(_name, _raw, bad(), closes=_name == "http09")
case("hop_by_hop", OK + b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\n" + CL + b"5\r\n\r\nhello",
     seen(200, b"hello", True, X_Hop=None, Keep_Alive=None, X_End="2"))
case("connection_not_a_token", OK + b"Connection: a b\r\n" + CL + b"5\r\n\r\nhello", seen(200, b"hello", False))
case("imitation_of_length", OK + b"Content_Length: 50\r\n" + CL + b"5\r\n\r\nhello",
     seen(200, b"hello", True))
