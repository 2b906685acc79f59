"""Raw requests that two programs could read differently, and what gatehouse makes of each.

Each row of CASES is (name, raw bytes, verdict). The bytes are sent on one connection, followed by
a request for /end with "Connection: close" where the verdict lets the connection live on.

Verdicts:
  refused(STATUS, REASON)   one error reply with that status, then the connection ends; the upstream
                            never sees a complete request of this case
  after(N, verdict)         the first N requests (given in full) are answered 200 first
  passed(request, ...)      the upstream sees exactly these requests, each in canonical framing
  dropped()                 the connection ends without the upstream seeing a complete request; the
                            client may be told why

A request is (METHOD, target, body) or (METHOD, target, body, {field: value or None}): the dictionary
says what the upstream must see of a field, None that it must not see it.

Whatever is meant to be smuggled asks for /smuggled, so that one look at the upstream's record shows
whether it came through as a request of its own.
"""
from collections import namedtuple

Refused = namedtuple("Refused", "status reason")
After = namedtuple("After", "requests then")
Passed = namedtuple("Passed", "requests closes")
Dropped = namedtuple("Dropped", "")


def refused(status, reason):
    return Refused(status, reason)


def after(requests, then):
    return After(requests, then)


def passed(*requests, closes=False):
    """`closes`: gatehouse ends the connection after the last of them."""
    return Passed(list(requests), closes)


def dropped():
    return Dropped()


HOST = b"Host: a.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
CL = b"Content-Length: "
TE = b"Transfer-Encoding: "
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GET = ("GET", "/x", b"")
POST_HELLO = ("POST", "/x", b"hello")
POST_EMPTY = ("POST", "/x", b"")

CASES = []


def case(name, raw, verdict):
    assert name not in {row[0] for row in CASES}, f"two cases are called {name}"
    CASES.append((name, raw, verdict))


def post(name, lines, body, verdict):
    """POST /x with a Host field, the given lines and whatever follows the head."""
    case(name, b"POST /x HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body, verdict)


def get(name, lines, verdict, rest=b""):
    case(name, b"GET /x HTTP/1.1\r\n" + HOST + lines + b"\r\n" + rest, verdict)


def line(name, request_line, verdict, rest=HOST + b"\r\n"):
    case(name, request_line + rest, verdict)


BOTH = refused(400, "both_lengths")
BAD_TE = refused(400, "bad_transfer_encoding")
BAD_CL = refused(400, "bad_length")
BAD_CHUNK = refused(400, "bad_chunk")
BAD_LINE = refused(400, "bad_request_line")
BAD_TARGET = refused(400, "bad_target")
BAD_HOST = refused(400, "bad_host")
BAD_NAME = refused(400, "bad_field_name")
BAD_VALUE = refused(400, "bad_field_value")
BAD_VERSION = refused(400, "bad_version")

# ---- Plain requests, so that the rest is not passed by refusing everything ------------------------

get("plain_get", b"", passed(GET))
post("plain_length", CL + b"5\r\n", b"hello", passed(POST_HELLO))
post("plain_length_zero", CL + b"0\r\n", b"", passed(POST_EMPTY))
post("plain_chunked", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", passed(POST_HELLO))
post("plain_chunked_in_two", CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", passed(POST_HELLO))
post("plain_chunked_empty", CHUNKED, b"0\r\n\r\n", passed(POST_EMPTY))
post("plain_no_length", b"", b"", passed(POST_EMPTY))
get("plain_get_with_body", CL + b"5\r\n", passed(("GET", "/x", b"hello")), b"hello")
get("plain_get_chunked", CHUNKED, passed(("GET", "/x", b"hello")), b"5\r\nhello\r\n0\r\n\r\n")
case("plain_pipeline", b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nPOST /2 HTTP/1.1\r\n" + HOST + CL +
     b"3\r\n\r\nabcGET /3 HTTP/1.1\r\n" + HOST + b"\r\n",
     passed(("GET", "/1", b""), ("POST", "/2", b"abc"), ("GET", "/3", b"")))
case("plain_other_method", b"PROPFIND /x HTTP/1.1\r\n" + HOST + b"\r\n", passed(("PROPFIND", "/x", b"")))
post("body_that_looks_like_a_request", CL + str(len(SMUGGLED)).encode() + b"\r\n", SMUGGLED,
     passed(("POST", "/x", SMUGGLED)))
post("chunk_that_looks_like_a_request", CHUNKED, b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
     passed(("POST", "/x", SMUGGLED)))

# ---- CL.TE and TE.CL: both lengths ---------------------------------------------------------------

post("cl_te", CL + b"6\r\n" + CHUNKED, b"0\r\n\r\nG", BOTH)
post("cl_te_smuggled", CL + str(5 + len(SMUGGLED)).encode() + b"\r\n" + CHUNKED,
     b"0\r\n\r\n" + SMUGGLED, BOTH)
post("te_cl", CHUNKED + CL + b"4\r\n", b"2c\r\n" + SMUGGLED[:44] + b"\r\n0\r\n\r\n", BOTH)
post("te_cl_zero", CHUNKED + CL + b"0\r\n", b"5\r\nhello\r\n0\r\n\r\n", BOTH)
post("cl_te_agreeing", CL + b"15\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", BOTH)
post("cl_te_identity", CL + b"5\r\n" + TE + b"identity\r\n", b"hello", BOTH)
post("cl_te_far_apart", CL + b"5\r\n" + b"X-A: b\r\n" * 20 + CHUNKED, b"0\r\n\r\n", BOTH)
case("cl_te_http10", b"POST /x HTTP/1.0\r\n" + HOST + CL + b"5\r\n" + CHUNKED + b"\r\n0\r\n\r\n", BOTH)
get("cl_te_get", CL + b"5\r\n" + CHUNKED, BOTH, b"0\r\n\r\n")
post("cl_empty_te", CL + b"\r\n" + CHUNKED, b"0\r\n\r\n", BOTH)
post("cl_te_cl", CL + b"5\r\n" + CHUNKED + CL + b"5\r\n", b"0\r\n\r\n", BOTH)

# ---- TE.TE: what one program takes for chunked and another does not -------------------------------

for _name, _value in [
        ("identity", b"identity"), ("xchunked", b"xchunked"), ("chunkedx", b"chunkedx"),
        ("list_identity_chunked", b"identity, chunked"), ("list_chunked_identity", b"chunked, identity"),
        ("list_gzip_chunked", b"gzip, chunked"), ("list_chunked_gzip", b"chunked, gzip"),
        ("list_twice", b"chunked, chunked"), ("list_empty_first", b",chunked"),
        ("list_empty_last", b"chunked,"), ("quoted", b'"chunked"'), ("single_quoted", b"'chunked'"),
        ("parameter", b"chunked;q=1"), ("semicolon", b"chunked;"), ("empty", b""), ("space_inside", b"chun ked"),
        ("two_words", b"chunked identity"), ("cow", b"cow"), ("backslash", b"\\chunked"),
        ("non_ascii", b"chunk\xe9d"), ("nbsp", b"chunked\xa0"), ("kelvin", b"chun\xe2\x84\xaaed"),
        ("comma_space", b"chunked ,"), ("deflate", b"deflate"), ("colon", b": chunked"), ("dot", b"chunked.")]:
    post("te_" + _name, TE + _value + b"\r\n", b"5\r\nhello\r\n0\r\n\r\n", BAD_TE)
post("te_repeated", CHUNKED + CHUNKED, b"0\r\n\r\n", BAD_TE)
post("te_repeated_identity_last", CHUNKED + TE + b"identity\r\n", b"0\r\n\r\n", BAD_TE)
post("te_repeated_cow_first", TE + b"cow\r\n" + CHUNKED, b"0\r\n\r\n", BAD_TE)
post("te_repeated_other_case", CHUNKED + b"transfer-encoding: x\r\n", b"0\r\n\r\n", BAD_TE)
case("te_http10", b"POST /x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED, BAD_TE)
case("te_http10_keep_alive", b"POST /x HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n" + CHUNKED +
     b"\r\n0\r\n\r\n" + SMUGGLED, BAD_TE)
post("te_upper_case", b"TRANSFER-ENCODING: CHUNKED\r\n", b"5\r\nhello\r\n0\r\n\r\n", passed(POST_HELLO))
post("te_tabs_around", b"Transfer-Encoding:\tchunked\t\r\n", b"5\r\nhello\r\n0\r\n\r\n", passed(POST_HELLO))
post("te_vertical_tab", TE + b"\x0bchunked\r\n", b"0\r\n\r\n", BAD_VALUE)
post("te_form_feed", TE + b"chunked\x0c\r\n", b"0\r\n\r\n", BAD_VALUE)
post("te_nul_after", TE + b"chunked\0\r\n", b"0\r\n\r\n", refused(400, "nul_byte"))
post("te_delete", TE + b"chunked\x7f\r\n", b"0\r\n\r\n", BAD_VALUE)
post("te_space_before_colon", b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n", refused(400, "space_before_colon"))
post("te_tab_before_colon", b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n", refused(400, "space_before_colon"))
post("te_folded", b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n", refused(400, "obs_fold"))
post("te_folded_into_other", b"X: y\r\n Transfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "obs_fold"))
post("te_after_bare_cr", b"X: y\rTransfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "bare_cr"))
post("te_after_bare_lf", b"X: y\nTransfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "bare_lf"))
post("te_no_colon", b"Transfer-Encoding chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "space_before_colon"))
post("te_leading_space", b" Transfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "obs_fold"))
post("te_name_underscore", b"Transfer_Encoding: chunked\r\n" + CL + b"5\r\n", b"hello",
     passed(("POST", "/x", b"hello", {"Transfer_Encoding": None})))
post("te_name_dot", b"Transfer.Encoding: chunked\r\n" + CL + b"5\r\n", b"hello",
     passed(("POST", "/x", b"hello", {"Transfer.Encoding": None})))
post("te_name_with_nul", b"Transfer-Encoding\0: chunked\r\n" + CL + b"5\r\n", b"hello", refused(400, "nul_byte"))
post("te_name_with_high_byte", b"Transfer-Encoding\xff: chunked\r\n" + CL + b"5\r\n", b"hello", BAD_NAME)
post("te_name_quoted", b'"Transfer-Encoding": chunked\r\n' + CL + b"5\r\n", b"hello", BAD_NAME)
post("te_name_with_slash", b"Foo/Transfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", BAD_NAME)
post("te_other_field", b"X-Transfer-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", passed(POST_HELLO))
post("te_content_encoding", b"Content-Encoding: chunked\r\n" + CL + b"5\r\n", b"hello", passed(POST_HELLO))

# ---- Content-Length ------------------------------------------------------------------------------

post("cl_repeated", CL + b"5\r\n" + CL + b"5\r\n", b"hello", refused(400, "repeated_length"))
post("cl_repeated_differing", CL + b"5\r\n" + CL + b"0\r\n", b"hello", refused(400, "repeated_length"))
post("cl_repeated_other_case", CL + b"0\r\ncontent-length: 44\r\n", SMUGGLED, refused(400, "repeated_length"))
for _name, _value in [
        ("list", b"5, 5"), ("list_differing", b"0,44"), ("plus", b"+5"), ("minus", b"-5"), ("minus_zero", b"-0"),
        ("hex", b"0x5"), ("empty", b""), ("space_inside", b"5 0"), ("letters", b"five"),
        ("trailing_letter", b"5a"), ("decimal", b"5.0"), ("exponent", b"1e1"), ("octal", b"0o5"),
        ("leading_zero", b"05"), ("overflow_63", b"9223372036854775808"),
        ("overflow_64", b"18446744073709551621"), ("overflow_far", b"9" * 40), ("underscore", b"1_0"),
        ("quoted", b'"5"'), ("comma_last", b"5,"), ("comma_first", b",5"), ("semicolon", b"5;"),
        ("arabic_digit", b"\xd9\xa5"), ("nbsp", b"5\xa0")]:
    post("cl_" + _name, CL + _value + b"\r\n", b"hello", BAD_CL)
post("cl_tabs_around", b"Content-Length:\t5\t\r\n", b"hello", passed(POST_HELLO))
post("cl_vertical_tab", CL + b"\x0b5\r\n", b"hello", BAD_VALUE)
post("cl_nul", CL + b"5\0\r\n", b"hello", refused(400, "nul_byte"))
post("cl_space_before_colon", b"Content-Length : 5\r\n", b"hello", refused(400, "space_before_colon"))
post("cl_folded", b"Content-Length: 4\r\n 4\r\n", SMUGGLED, refused(400, "obs_fold"))
post("cl_name_underscore", b"Content_Length: 44\r\n", b"", passed(("POST", "/x", b"", {"Content_Length": None})))
post("cl_name_underscore_and_real", b"Content_Length: 0\r\n" + CL + b"5\r\n", b"hello",
     passed(("POST", "/x", b"hello", {"Content_Length": None})))
post("cl_misspelt", b"Content Length: 5\r\n", b"hello", refused(400, "space_before_colon"))
post("cl_too_large", CL + b"99999999999\r\n", b"hello", refused(413, "body_too_large"))

# ---- CL.0 and 0.CL: one side believes there is no body --------------------------------------------

get("cl0_get", CL + str(len(SMUGGLED)).encode() + b"\r\n", passed(("GET", "/x", SMUGGLED)), SMUGGLED)
case("cl0_head", b"HEAD /x HTTP/1.1\r\n" + HOST + CL + b"5\r\n\r\nhello", passed(("HEAD", "/x", b"hello")))
case("cl0_delete", b"DELETE /x HTTP/1.1\r\n" + HOST + CL + b"5\r\n\r\nhello", passed(("DELETE", "/x", b"hello")))
case("cl0_options", b"OPTIONS /x HTTP/1.1\r\n" + HOST + CL + b"5\r\n\r\nhello", passed(("OPTIONS", "/x", b"hello")))
case("cl0_trace", b"TRACE /x HTTP/1.1\r\n" + HOST + CL + str(len(SMUGGLED)).encode() + b"\r\n\r\n" + SMUGGLED, BAD_CL)
case("cl0_trace_chunked", b"TRACE /x HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", BAD_TE)
get("zero_cl_extra_bytes", CL + b"0\r\n", after([GET], refused(400, "bad_method")), b"h@llo / HTTP/1.1\r\n\r\n")
post("zero_cl_underscored_first", b"CONTENT_LENGTH: 44\r\n" + CL + b"0\r\n", SMUGGLED,
     passed(("POST", "/x", b"", {"CONTENT_LENGTH": None}), ("GET", "/smuggled", b"")))
get("body_without_length", b"", after([GET], refused(400, "bad_request_line")), b"hello\r\n\r\n")
post("truncated_length", CL + b"500\r\n", b"hello", dropped())
post("truncated_chunked", CHUNKED, b"5\r\nhel", dropped())
post("truncated_before_last_chunk", CHUNKED, b"5\r\nhello\r\n", dropped())
post("truncated_in_last_chunk", CHUNKED, b"5\r\nhello\r\n0\r\n\r", dropped())

# ---- Names, white space, line ends ----------------------------------------------------------------

get("field_without_colon", b"Foo\r\n", BAD_NAME)
get("field_empty_name", b": x\r\n", BAD_NAME)
get("field_name_with_cr", b"Fo\ro: x\r\n", BAD_NAME)
get("field_name_with_bracket", b"Foo[0]: x\r\n", BAD_NAME)
get("field_name_with_at", b"@Foo: x\r\n", BAD_NAME)
case(
    "field_first_line_indented", b"GET /x HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n", refused(400, "obs_fold"))
get("field_folded", b"X: a\r\n b\r\n", refused(400, "obs_fold"))
get("field_folded_tab", b"X: a\r\n\tb\r\n", refused(400, "obs_fold"))
get("field_folded_empty", b"X: a\r\n \r\n", refused(400, "obs_fold"))
get("field_value_cr", b"X: a\rb\r\n", refused(400, "bare_cr"))
get("field_value_cr_cr_lf", b"X: a\r\r\n", refused(400, "bare_cr"))
get("field_value_lf_header", b"X: a\nEvil: b\r\n", refused(400, "bare_lf"))
get("field_value_nul", b"X: a\0b\r\n", refused(400, "nul_byte"))
get("field_value_escape", b"X: a\x1bb\r\n", BAD_VALUE)
get("field_value_high_bytes", b"X: \xc3\xa9\xff\r\n", passed(GET))
get("field_value_empty", b"X:\r\n", passed(GET))
get("field_value_colons", b"X: a: b: c\r\n", passed(GET))
case("lf_only_request", b"GET /x HTTP/1.1\nHost: a.example\n\n", refused(400, "bare_lf"))
case("lf_only_head_end", b"GET /x HTTP/1.1\r\n" + HOST + b"\n" + SMUGGLED, refused(400, "bare_lf"))
case("cr_only_request", b"GET /x HTTP/1.1\rHost: a.example\r\r", refused(400, "bare_cr"))
case("cr_at_head_end", b"GET /x HTTP/1.1\r\n" + HOST + b"\rX: y\r\n\r\n", refused(400, "bare_cr"))
case("crcrlf_head_end", b"GET /x HTTP/1.1\r\n" + HOST + b"\r\r\n" + SMUGGLED, refused(400, "bare_cr"))
case("empty_line_before", b"\r\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n", passed(GET))
case("two_empty_lines_before", b"\r\n\r\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n", BAD_LINE)
case("bare_lf_before", b"\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n", refused(400, "bare_lf"))
post("empty_line_between", CL + b"5\r\n", b"hello\r\nGET /y HTTP/1.1\r\n" + HOST + b"\r\n",
     passed(POST_HELLO, ("GET", "/y", b"")))
post("space_between", CL + b"5\r\n", b"hello GET /y HTTP/1.1\r\n" + HOST + b"\r\n", after([POST_HELLO], BAD_LINE))
get("too_many_fields", b"X: y\r\n" * 120, refused(431, "too_many_fields"))
get("too_large_a_field", b"X: " + b"y" * 40000 + b"\r\n", refused(431, "head_too_large"))
get("imitations_of_forwarding", b"X_Forwarded_For: 1.2.3.4\r\nX.Real.Ip: 1.2.3.4\r\n",
    passed(("GET", "/x", b"", {"X_Forwarded_For": None, "X.Real.Ip": None})))

# ---- Chunk sizes, extensions, ends -----------------------------------------------------------------

for _name, _body in [
        ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"), ("plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("minus", b"-5\r\nhello\r\n0\r\n\r\n"), ("space_before", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("space_after", b"5 \r\nhello\r\n0\r\n\r\n"), ("tab_after", b"5\t\r\nhello\r\n0\r\n\r\n"),
        ("empty", b"\r\nhello\r\n0\r\n\r\n"), ("letter", b"5g\r\nhello\r\n0\r\n\r\n"),
        ("nul", b"5\0\r\nhello\r\n0\r\n\r\n"), ("underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("17_digits", b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n"),
        ("overflow_64", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("negative_64", b"fffffffffffffffb\r\nhello\r\n0\r\n\r\n"),
        ("overflow_63", b"8000000000000000\r\nhello"), ("quoted", b'"5"\r\nhello\r\n0\r\n\r\n'),
        ("lf", b"5\nhello\r\n0\r\n\r\n"), ("cr", b"5\rhello\r\n0\r\n\r\n"),
        ("crcrlf", b"5\r\r\nhello\r\n0\r\n\r\n"), ("comma", b"5,5\r\nhello\r\n0\r\n\r\n"),
        ("dot", b"5.0\r\nhello\r\n0\r\n\r\n"), ("full_width_digit", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n")]:
    post("chunk_size_" + _name, CHUNKED, _body, BAD_CHUNK)
post("chunk_size_upper_case", CHUNKED, b"A\r\n0123456789\r\n0\r\n\r\n", passed(("POST", "/x", b"0123456789")))
post("chunk_size_zeros", CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n", passed(POST_HELLO))
for _name, _body in [
        ("too_short", b"4\r\nhello\r\n0\r\n\r\n"), ("size_too_large", b"6\r\nhello\r\n0\r\n\r\n"),
        ("no_crlf", b"5\r\nhello0\r\n\r\n"), ("lf", b"5\r\nhello\n0\r\n\r\n"),
        ("cr", b"5\r\nhello\r0\r\n\r\n"), ("any_two", b"5\r\nhelloXX0\r\n\r\n"),
        ("spill_by_two", b"5\r\nhello" + b"\x00\x00" + b"0\r\n\r\n"),
        ("extra_crlf", b"5\r\nhello\r\n\r\n0\r\n\r\n"), ("space_before_next", b"5\r\nhello\r\n 0\r\n\r\n")]:
    post("chunk_data_" + _name, CHUNKED, _body, BAD_CHUNK)
for _name, _body in [
        ("name", b"5;a\r\nhello\r\n0\r\n\r\n"), ("value", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("quoted", b'5;a="b;\\"c"\r\nhello\r\n0\r\n\r\n'), ("on_last", b"5\r\nhello\r\n0;a=b\r\n\r\n"),
        ("spaced", b"5 ; a = b\r\nhello\r\n0\r\n\r\n"), ("two", b"5;a;b=c\r\nhello\r\n0\r\n\r\n")]:
    post("chunk_ext_" + _name, CHUNKED, _body, passed(POST_HELLO))
for _name, _body in [
        ("bare_semicolon", b"5;\r\nhello\r\n0\r\n\r\n"), ("semicolon_twice", b"5;;a\r\nhello\r\n0\r\n\r\n"),
        ("no_value", b"5;a=\r\nhello\r\n0\r\n\r\n"), ("no_name", b"5;=b\r\nhello\r\n0\r\n\r\n"),
        ("trailing_space", b"5;a \r\nhello\r\n0\r\n\r\n"), ("unclosed_quote", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
        ("nul", b"5;a\0\r\nhello\r\n0\r\n\r\n"), ("control", b"5;a=\x01\r\nhello\r\n0\r\n\r\n"),
        ("too_long", b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n"),
        # TERM.EXT: the first program takes the LF for the line's end, the second for a part of the
        # extension, so that each sees other chunks.
        ("term_ext", b"2;\nxx\r\n2d\r\nab\r\n0\r\n\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("term_ext_named", b"2;a\nxx\r\n0\r\n\r\n" + SMUGGLED),
        ("term_ext_cr", b"2;a\rxx\r\n0\r\n\r\n" + SMUGGLED),
        # EXT.TERM: the other way round.
        ("ext_term", b"2e;a\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("ext_term_quoted_lf", b'2;a="\nxx\r\n0\r\n\r\n' + SMUGGLED + b'"'),
        ("ext_term_quoted_crlf", b'2;a="\r\nxx"\r\n0\r\n\r\n' + SMUGGLED),
        ("term_spill", b"5\nAAAAA\r\n2d\r\n0\r\n\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("spill_two_byte_end", b"5\r\nhelloX\n2d\r\n0\r\n\r\n" + SMUGGLED),
        ("spill_one_byte_end", b"5\r\nhello\n31\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("last_chunk_lf", b"5\r\nhello\r\n0\n\r\n" + SMUGGLED),
        ("last_chunk_bare", b"5\r\nhello\r\n0\r\n\rX" + SMUGGLED)]:
    post("chunk_ext_bad_" + _name, CHUNKED, _body, BAD_CHUNK)
post("last_chunk_ends_with_lf", CHUNKED, b"5\r\nhello\r\n0\r\n\n" + SMUGGLED, refused(400, "bare_lf"))
post("after_last_chunk", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
     passed(POST_HELLO, ("GET", "/smuggled", b"")))

# ---- Trailers ---------------------------------------------------------------------------------------

post("trailer", CHUNKED, b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", passed(POST_HELLO))
post("trailer_framing", CHUNKED, b"0\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
     passed(POST_EMPTY, ("GET", "/smuggled", b"")))
post("trailer_host", CHUNKED, b"0\r\nHost: evil.example\r\nAuthorization: x\r\n\r\n", passed(POST_EMPTY))
post("trailer_lf", CHUNKED, b"0\r\nX: y\n\r\n", refused(400, "bare_lf"))
post("trailer_folded", CHUNKED, b"0\r\nX: y\r\n z\r\n\r\n", refused(400, "obs_fold"))
post("trailer_space_before_colon", CHUNKED, b"0\r\nX : y\r\n\r\n", refused(400, "space_before_colon"))
post("trailer_is_a_request", CHUNKED, b"0\r\n" + SMUGGLED, refused(400, "space_before_colon"))
post("trailer_nul", CHUNKED, b"0\r\nX: \0\r\n\r\n", refused(400, "nul_byte"))
post("trailer_endless", CHUNKED, b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", refused(400, "bad_trailer"))

# ---- Request line -----------------------------------------------------------------------------------

line("line_http09", b"GET /x\r\n", BAD_VERSION)
line("line_two_spaces", b"GET  /x HTTP/1.1\r\n", BAD_LINE)
line("line_two_spaces_after", b"GET /x  HTTP/1.1\r\n", BAD_LINE)
line("line_leading_space", b" GET /x HTTP/1.1\r\n", BAD_LINE)
line("line_trailing_space", b"GET /x HTTP/1.1 \r\n", BAD_LINE)
line("line_tab", b"GET\t/x\tHTTP/1.1\r\n", BAD_LINE)
line("line_space_in_target", b"GET /x y HTTP/1.1\r\n", BAD_VERSION)
line("line_injected", b"GET /x HTTP/1.1 GET /smuggled HTTP/1.1\r\n", BAD_LINE)
line("line_nul", b"GET /x\0 HTTP/1.1\r\n", refused(400, "nul_byte"))
line("line_cr_in_target", b"GET /x\rHTTP/1.1\r\n", refused(400, "bare_cr"))
line("line_lower_case_method", b"get /x HTTP/1.1\r\n", refused(400, "bad_method"))
line("line_head_in_other_case", b"Head /x HTTP/1.1\r\n", refused(400, "bad_method"))
line("line_method_colon", b"GET: /x HTTP/1.1\r\n", refused(400, "bad_method"))
line("line_method_too_long", b"G" * 100 + b" /x HTTP/1.1\r\n", refused(501, "method_not_implemented"))
line("line_version_20", b"GET /x HTTP/2.0\r\n", refused(505, "unsupported_version"))
line("line_version_09", b"GET /x HTTP/0.9\r\n", refused(505, "unsupported_version"))
line("line_version_lower_case", b"GET /x http/1.1\r\n", BAD_VERSION)
line("line_version_two_digits", b"GET /x HTTP/1.10\r\n", BAD_VERSION)
line("line_version_one_digit", b"GET /x HTTP/1\r\n", BAD_VERSION)
line("line_version_zeros", b"GET /x HTTP/01.01\r\n", BAD_VERSION)
line("line_version_none", b"GET /x HTTP/\r\n", BAD_VERSION)
line("line_version_12", b"GET /x HTTP/1.2\r\n", passed(GET))
case("line_h2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused(505, "unsupported_version"))
case("line_tls_hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", refused(400, "bad_method"))
line("target_too_long", b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n", refused(414, "target_too_long"))

# ---- Targets ----------------------------------------------------------------------------------------

for _name, _target in [
        ("fragment", b"/x#y"), ("backslash", b"/x\\y"), ("high_bytes", b"/\xc3\xa9"), ("bad_escape", b"/%zz"),
        ("short_escape", b"/%2"), ("nul_escape", b"/x%00"), ("nul_escape_in_query", b"/x?%00"),
        ("above_root", b"/../x"), ("above_root_escaped", b"/%2e%2e/x"), ("dot_parameter", b"/a/..;/x"),
        ("dot_escaped_slash", b"/a/..%2fx"), ("dot_escaped_backslash", b"/a/..%5cx"), ("relative", b"x"),
        ("asterisk_get", b"*"), ("other_scheme", b"ftp://a.example/x"), ("no_authority_slashes", b"http:/x"),
        ("authority_get", b"a.example:80"), ("query_only", b"?x")]:
    line("target_" + _name, b"GET " + _target + b" HTTP/1.1\r\n", BAD_TARGET)
for _name, _target, _wanted in [
        ("dots", b"/a/../x", "/x"), ("escaped_dots", b"/a/%2e%2e/x", "/x"), ("slashes", b"//x", "/x"),
        ("escaped_letter", b"/%78", "/x"), ("lower_escape", b"/%c3%a9", "/%C3%A9"), ("escaped_slash", b"/a%2fb", "/a%2Fb"),
        ("double_escape", b"/%252e%252e/x", "/%252e%252e/x"), ("escaped_crlf", b"/x%0d%0aHost:%20b", "/x%0D%0AHost:%20b"),
        ("query_kept", b"/x?a=/../%2e&b=%zz", "/x?a=/../%2e&b=%zz"), ("browser_bytes", b"/{x}", "/%7Bx%7D")]:
    line("target_normal_" + _name, b"GET " + _target + b" HTTP/1.1\r\n", passed(("GET", _wanted, b"")))
case("target_asterisk_options", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", passed(("OPTIONS", "*", b"")))

# ---- Host and absolute form -------------------------------------------------------------------------

line("host_missing", b"GET /x HTTP/1.1\r\n", refused(400, "missing_host"), b"\r\n")
line("host_repeated", b"GET /x HTTP/1.1\r\n", refused(400, "repeated_host"), HOST + HOST + b"\r\n")
line("host_repeated_other", b"GET /x HTTP/1.1\r\n", refused(400, "repeated_host"), HOST + b"host: b.example\r\n\r\n")
line("host_http10_repeated", b"GET /x HTTP/1.0\r\n", refused(400, "repeated_host"), HOST + HOST + b"\r\n")
for _name, _value in [
        ("empty", b""), ("space", b"a b"), ("comma", b"a.example, b.example"), ("userinfo", b"a@b.example"),
        ("slash", b"a.example/x"), ("port_letters", b"a.example:x"), ("port_zero", b"a.example:0"),
        ("port_large", b"a.example:65536"), ("port_twice", b"a.example:80:80"), ("escape", b"a%2eexample"),
        ("dots", b"a..example"), ("bracket", b"[::1"), ("zone", b"[fe80::1%25eth0]"), ("backslash", b"a\\b"),
        ("high_bytes", b"\xc3\xa9.example"), ("scheme", b"http://a.example"), ("question", b"a?b"), ("semicolon", b"a;b")]:
    line("host_" + _name, b"GET /x HTTP/1.1\r\n", BAD_HOST, b"Host: " + _value + b"\r\n\r\n")
line("host_space_before_colon", b"GET /x HTTP/1.1\r\n", refused(400, "space_before_colon"), b"Host : a.example\r\n\r\n")
line("host_folded", b"GET /x HTTP/1.1\r\n", refused(400, "obs_fold"), b"Host:\r\n a.example\r\n\r\n")
line("host_underscored", b"GET /x HTTP/1.1\r\n", passed(("GET", "/x", b"", {"X_Forwarded_Host": None})),
     HOST + b"X_Forwarded_Host: b.example\r\n\r\n")
line("absolute", b"GET http://a.example/x HTTP/1.1\r\n", passed(GET))
line("absolute_no_path", b"GET http://a.example HTTP/1.1\r\n", passed(("GET", "/", b"")))
line("absolute_query", b"GET http://a.example?q HTTP/1.1\r\n", passed(("GET", "/?q", b"")))
line("absolute_userinfo", b"GET http://u@a.example/x HTTP/1.1\r\n", BAD_HOST)
line("absolute_empty_host", b"GET http:///x HTTP/1.1\r\n", BAD_HOST)
line("absolute_host_repeated", b"GET http://a.example/x HTTP/1.1\r\n", refused(400, "repeated_host"), HOST + HOST + b"\r\n")
line("absolute_host_missing", b"GET http://a.example/x HTTP/1.1\r\n", refused(400, "missing_host"), b"\r\n")
line("absolute_host_bad", b"GET http://a.example/x HTTP/1.1\r\n", BAD_HOST, b"Host: a b\r\n\r\n")
line("absolute_host_other", b"GET http://a.example/x HTTP/1.1\r\n", passed(("GET", "/x", b"", {"Host": "a.example"})), b"Host: evil.example\r\n\r\n")

# ---- HTTP/1.0 and persistence -------------------------------------------------------------------------

line("http10", b"GET /x HTTP/1.0\r\n", passed(GET, closes=True))
line("http10_then_smuggled", b"GET /x HTTP/1.0\r\n", passed(GET, closes=True), HOST + b"\r\n" + SMUGGLED)
line("http10_keep_alive", b"GET /x HTTP/1.0\r\n", passed(GET), HOST + b"Connection: keep-alive\r\n\r\n")
line("http10_proxy_keep_alive", b"GET /x HTTP/1.0\r\n", passed(GET, closes=True), HOST + b"Proxy-Connection: keep-alive\r\n\r\n")
case("http10_length", b"POST /x HTTP/1.0\r\n" + HOST + CL + b"5\r\n\r\nhello" + SMUGGLED, passed(POST_HELLO, closes=True))
case("http10_no_host", b"GET /x HTTP/1.0\r\n\r\n", passed(GET, closes=True))
get("close_then_smuggled", b"Connection: close\r\n", passed(GET, closes=True), SMUGGLED)
get("close_and_keep_alive", b"Connection: keep-alive, close\r\n", passed(GET, closes=True), SMUGGLED)

# ---- Connection, Upgrade, Expect, TE ------------------------------------------------------------------

post("connection_names_length", b"Connection: Content-Length\r\n" + CL + b"%d\r\n" % len(SMUGGLED), SMUGGLED, refused(400, "bad_connection"))
post("connection_names_te", b"Connection: transfer-encoding\r\n" + CHUNKED, b"0\r\n\r\n", refused(400, "bad_connection"))
get("connection_names_host", b"Connection: close, Host\r\n", refused(400, "bad_connection"))
get("connection_names_cookie", b"Connection: Cookie\r\nCookie: a=b\r\n", passed(("GET", "/x", b"", {"Cookie": "a=b"})))
get("connection_names_authorization", b"Connection: Authorization\r\nAuthorization: x\r\n",
    passed(("GET", "/x", b"", {"Authorization": "x"})))
get("connection_names_other", b"Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n",
    passed(("GET", "/x", b"", {"X-Hop": None, "X-End": "2"})))
get("connection_not_a_token", b"Connection: close;x\r\n", refused(400, "bad_connection"))
get("connection_many_names", b"Connection: " + b",".join(b"n%d" % i for i in range(100)) + b"\r\n", refused(400, "bad_connection"))
get("hop_by_hop", b"Keep-Alive: 5\r\nProxy-Connection: close\r\nTE: gzip\r\n",
    passed(("GET", "/x", b"", {"Keep-Alive": None, "Proxy-Connection": None})))
get("upgrade_h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    passed(("GET", "/x", b"", {"Upgrade": None, "HTTP2-Settings": None})))
get("upgrade_h2c_in_list", b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", passed(("GET", "/x", b"", {"Upgrade": None})))
get("upgrade_h2c_twice", b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", passed(("GET", "/x", b"", {"Upgrade": None})))
get("upgrade_not_nominated", b"Upgrade: websocket\r\n", passed(("GET", "/x", b"", {"Upgrade": None})))
get("upgrade_refused_by_upstream", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 1\r\n",
    passed(GET, ("GET", "/next", b"")), b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n")
post("upgrade_with_body", b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + CL + b"5\r\n", b"hello",
     passed(("POST", "/x", b"hello", {"Upgrade": None})))
line("upgrade_http10", b"GET /x HTTP/1.0\r\n", passed(("GET", "/x", b"", {"Upgrade": None}), closes=True),
     HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
for _name, _value in [("other", b"foo"), ("prefix", b"y 100-continue"), ("list", b"100-continue, x"),
                      ("parameter", b"100-continue;a"), ("empty", b"")]:
    post("expect_" + _name, b"Expect: " + _value + b"\r\n" + CL + b"5\r\n", b"hello", refused(417, "unsupported_expectation"))
post("expect_twice", b"Expect: 100-continue\r\nExpect: 100-continue\r\n" + CL + b"5\r\n", b"hello",
     refused(417, "unsupported_expectation"))
post("expect_continue", b"Expect: 100-continue\r\n" + CL + b"5\r\n", b"hello", passed(POST_HELLO))
post("expect_continue_chunked", b"Expect: 100-continue\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", passed(POST_HELLO))
get("expect_without_body", b"Expect: 100-continue\r\n", passed(GET, ("GET", "/smuggled", b"")), SMUGGLED)
post("expect_bad_length", b"Expect: 100-continue\r\n" + CL + b"5\r\n" + CL + b"5\r\n", b"hello", refused(400, "repeated_length"))
post("expect_folded", b"Expect:\r\n 100-continue\r\n" + CL + b"5\r\n", b"hello", refused(400, "obs_fold"))
case("connect_with_length", b"CONNECT a.example:80 HTTP/1.1\r\n" + HOST + CL + b"44\r\n\r\n" + SMUGGLED, BAD_CL)
case("connect_origin_form", b"CONNECT /x HTTP/1.1\r\n" + HOST + b"\r\n", BAD_TARGET)
case("connect_no_port", b"CONNECT a.example HTTP/1.1\r\n" + HOST + b"\r\n", BAD_TARGET)

# ---- Pipelines: a fault in a later request --------------------------------------------------------------

get("pipeline_bad_second", b"", after([GET], refused(400, "bare_lf")), b"GET /smuggled HTTP/1.1\n\n")
get("pipeline_both_second", b"", after([GET], BOTH),
    b"POST /y HTTP/1.1\r\n" + HOST + CL + b"44\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED)
post("pipeline_chunked_then_bad", CHUNKED, b"0\r\n\r\nX" + b"\0" + SMUGGLED, after([POST_EMPTY], refused(400, "nul_byte")))
post("pipeline_refused_first", CL + b"5\r\n" + CL + b"5\r\n", b"hello" + SMUGGLED, refused(400, "repeated_length"))
