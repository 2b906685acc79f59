// The modules of this build, in the order in which their hooks run inside one phase.
#include "modules/registry.h"

#include <config.h>

namespace gatehouse {

namespace {

const Module* const kModules[] = {
    &kForwardedModule,
    &kRequestIdModule,
};

}  // namespace

std::span<const Module* const> all_modules() { return kModules; }

}  // namespace gatehouse
