// Where OpenSSL gets the buffers of its connections from.
//
// A connection at rest has none: OpenSSL takes one of 16 KiB and a little for each record it reads
// or writes, and gives it back. From malloc that is a search, a split and a merge each time, and in
// between small blocks that stay come to lie behind large ones that went, so that five thousand
// handshakes leave a heap of holes. So blocks of that size are kept, a few for each thread, and
// handed out again last-in first-out, while they are still in the processor's cache. Everything
// else goes to malloc. Under AddressSanitizer nothing is kept: GATEHOUSE_POOLS is 0 then.
#pragma once

namespace gatehouse {

// To be called before anything else of OpenSSL's; later it has no effect.
void keep_openssl_buffers();

}  // namespace gatehouse
