// The directive table of [log NAME].
#include "core/log_conf.h"

namespace gatehouse {
namespace {

constexpr Directive kLogDirectives[] = {
    directive<&LogConf::file>(
        "file", "The file that lines are added to; or stdout or stderr. The master opens it.",
        "/var/log/gatehouse/access.log", DirectiveFlag::kRequired,
        expects("a path, stdout or stderr")),
    directive<&LogConf::buffer>(
        "buffer",
        "How many bytes of lines each worker collects before it writes them, and the most that it "
        "keeps while the file cannot be written.",
        "64k", range(4_KiB, 16_MiB)),
    directive<&LogConf::flush>(
        "flush", "How long a line may wait in the buffer; 0s writes after every turn of the loop.",
        "1s", range(std::chrono::seconds(0), std::chrono::minutes(1))),
};

}  // namespace

constexpr DirectiveTable kLogTable = directive_table<LogConf>("log", kLogDirectives);

}  // namespace gatehouse
