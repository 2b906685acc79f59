// The memory of libnghttp2's sessions: the free lists of the thread (core/frame_pool.h), since each
// request takes some ten small blocks and gives them back; and one block that is shared.
//
// Each session has a buffer of 16 KiB in which it puts frames together. Its content means something
// only while nghttp2_session_mem_send runs and until what that has returned was copied, if every
// frame can be taken at once (see H2Session::collect). So all sessions of a thread share one such
// buffer, and a connection at rest holds none. Where a version of the library asks for another size
// nothing is shared.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>

namespace gatehouse {

// The largest piece that the library hands over at once: a whole frame.
inline constexpr size_t kH2PieceMax = 9 + 1 + 16384;

// `lent` is the session's own: whether it has the shared buffer. It outlives the session.
nghttp2_mem h2_memory(bool& lent);

}  // namespace gatehouse
