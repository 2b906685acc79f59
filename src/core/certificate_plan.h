// CertificatePlan: which files the sections [certificate NAME] want read, with the places that
// errors name. Part of the ProcessPlan: it can be carried out again without the configuration,
// which is how certificates are swapped alone.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/config_errors.h"

namespace gatehouse {

// A value of a key, and where it stands.
struct PlannedValue {
  std::string text;  // as it was written
  Origin origin;
  std::string where;  // "FILE:LINE"
};

struct PlannedCertificate {
  struct File {
    PlannedValue value;
    std::string path;  // the same, made relative to where the program runs
  };
  std::string name;  // of the section
  // As many of the one as of the other, at least one; what stands in the same place is a pair.
  std::vector<File> certificates;
  std::vector<File> keys;
  std::vector<File> ocsp;
  std::vector<PlannedValue> names;  // empty: those in the certificates
};

using CertificatePlan = std::vector<PlannedCertificate>;

// Calls visit(file) for every file of the plan, in the order in which their bytes travel.
template <typename Visit>
void visit_certificate_files(const CertificatePlan& plan, Visit visit) {
  for (const PlannedCertificate& planned : plan) {
    for (const PlannedCertificate::File& file : planned.certificates) visit(file);
    for (const PlannedCertificate::File& file : planned.keys) visit(file);
    for (const PlannedCertificate::File& file : planned.ocsp) visit(file);
  }
}

}  // namespace gatehouse
