// Telling a service manager how the service does: the sd_notify protocol (sd_notify(3)).
//
// One datagram of NAME=VALUE lines to the socket in NOTIFY_SOCKET: a path, or with @ in front an
// abstract name. Where the variable is not set, nothing happens. The variable stays in the
// environment, because the program that an upgrade starts has to tell as well.
//
// Not spoken: watchdog, descriptor store, sockets of other families (vsock).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "core/result.h"
#include "core/units.h"

namespace gatehouse {

class ServiceNotify {
 public:
  // Tells nobody.
  ServiceNotify() = default;
  static ServiceNotify from_environment();
  // `address` as the variable has it.
  explicit ServiceNotify(std::string address) : address_(std::move(address)) {}

  bool is_wanted() const { return !address_.empty(); }

  // Started, or done with a reload. `pid`: the main process from now on. `status` is one line for
  // `systemctl status`; what would break the line becomes a space.
  Result<void> ready(pid_t pid, std::string_view status) const;
  // `now` on CLOCK_MONOTONIC; ready() ends it.
  Result<void> reloading(Moment now, std::string_view status) const;
  Result<void> stopping(std::string_view status) const;
  Result<void> status(std::string_view status) const;
  // The service ends with this error.
  Result<void> failed(int error_number, std::string_view status) const;

 private:
  Result<void> send(const std::string& state) const;

  std::string address_;
};

}  // namespace gatehouse
