// The ordered list of modules: what gatehouse can do besides proxying.
//
// Inside one phase hooks run in the order of this list. Adding a feature is its own file, a line
// here and in registry.cc, and its tests.
#pragma once

#include <span>

#include "http/module.h"

namespace gatehouse {

extern const Module kForwardedModule;
extern const Module kRequestIdModule;
extern const Module kSheddingModule;
extern const Module kLimitModule;
extern const Module kHstsModule;
extern const Module kGrpcWebModule;
extern const Module kGrpcModule;
extern const Module kCompressModule;
extern const Module kReplyModule;
extern const Module kRedirectModule;
extern const Module kMetricsEndpointModule;
extern const Module kAccessLogModule;

// All modules, in order.
std::span<const Module* const> all_modules();

}  // namespace gatehouse
