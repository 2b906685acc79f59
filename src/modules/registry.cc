// The modules of this build, in the order in which their hooks run inside one phase.
#include "modules/registry.h"

#include <config.h>

namespace gatehouse {

namespace {

const Module* const kModules[] = {
#ifndef GATEHOUSE_WITHOUT_FORWARDED
    &kForwardedModule,
#endif
#ifndef GATEHOUSE_WITHOUT_REQUEST_ID
    &kRequestIdModule,
#endif
#ifndef GATEHOUSE_WITHOUT_SHEDDING
    &kSheddingModule,
#endif
#ifndef GATEHOUSE_WITHOUT_GRPC_WEB
    &kGrpcWebModule,
#endif
#ifndef GATEHOUSE_WITHOUT_GRPC
    &kGrpcModule,
#endif
#ifndef GATEHOUSE_WITHOUT_LIMIT
    &kLimitModule,
#endif
#ifndef GATEHOUSE_WITHOUT_HSTS
    &kHstsModule,
#endif
#ifndef GATEHOUSE_WITHOUT_COMPRESS
    &kCompressModule,
#endif
#ifndef GATEHOUSE_WITHOUT_REPLY
    &kReplyModule,
#endif
#ifndef GATEHOUSE_WITHOUT_REDIRECT
    &kRedirectModule,
#endif
#ifndef GATEHOUSE_WITHOUT_METRICS_ENDPOINT
    &kMetricsEndpointModule,
#endif
#ifndef GATEHOUSE_WITHOUT_ACCESS_LOG
    &kAccessLogModule,
#endif
};

}  // namespace

std::span<const Module* const> all_modules() {
  return kModules;
}

}  // namespace gatehouse
