// See h2_conf.h.
#include "http/h2_conf.h"

namespace gatehouse {

namespace {

constexpr Directive kH2Directives[] = {
    directive<&H2Conf::max_streams>(
        "h2_max_streams",
        "HTTP/2: requests that may be under way at once on one connection; more are refused, and "
        "the client may send them again.",
        "256", range(1, 100'000)),
    directive<&H2Conf::stream_window>(
        "h2_stream_window",
        "HTTP/2: bytes of a request body that a client may send before they are passed on.", "64k",
        range(Bytes{16384}, 16_MiB)),
    directive<&H2Conf::connection_window>(
        "h2_connection_window",
        "HTTP/2: the same for all request bodies of a connection together: no more memory than "
        "this is ever used for them.",
        "256k", range(Bytes{65536}, 64_MiB)),
    directive<&H2Conf::resets_max>(
        "h2_resets_max",
        "HTTP/2: streams of one connection that may be reset within ten seconds, by the client or "
        "for what it sent. Beyond this, and beyond the five limits below, the connection is ended "
        "with ENHANCE_YOUR_CALM.",
        "500", range(1, 1'000'000)),
    directive<&H2Conf::pings_max>(
        "h2_pings_max",
        "HTTP/2: PING frames within ten seconds; each frame of body that is moved allows one more.",
        "100", range(1, 1'000'000)),
    directive<&H2Conf::settings_max>("h2_settings_max",
                                     "HTTP/2: SETTINGS frames within ten seconds.", "20",
                                     range(1, 1'000'000)),
    directive<&H2Conf::empty_frames_max>(
        "h2_empty_frames_max",
        "HTTP/2: frames without content, and frames of unknown types, within ten seconds.", "100",
        range(1, 1'000'000)),
    directive<&H2Conf::priorities_max>("h2_priorities_max",
                                       "HTTP/2: changes of priority within ten seconds.", "200",
                                       range(1, 1'000'000)),
    directive<&H2Conf::window_updates_max>(
        "h2_window_updates_max",
        "HTTP/2: WINDOW_UPDATE frames within ten seconds; each frame of body that is moved allows "
        "four more.",
        "1000", range(1, 1'000'000)),
};

constexpr DirectiveTable kTable = directive_table<H2Conf>("listener", kH2Directives);

}  // namespace

constinit const DirectiveTable kH2Table = kTable;

H2Budgets H2Conf::budgets() const {
  return {
      {resets_max, pings_max, settings_max, empty_frames_max, priorities_max, window_updates_max}};
}

}  // namespace gatehouse
