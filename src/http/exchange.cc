// What handlers and hooks do to an exchange; see exchange.h.
#include "http/exchange.h"

#include <new>

#include "http/error_reply.h"
#include "http/target_lease.h"

namespace gatehouse {

void Exchange::answer(uint16_t status, std::string_view content_type, std::string_view content) {
  response.status = status;
  response.phrase = {};
  response.fields.clear();
  response.content = content;
  response.body = {BodyLength::Kind::kLength, content.size()};
  if (!content_type.empty()) response.fields.push("Content-Type", content_type);
}

void Exchange::refuse(Reason why) {
  reason = why;
  write_error_reply(*this, why);
}

Task<bool> ClientSide::send_failure(Reason) {
  abort();
  co_return false;
}

void Exchange::add_response_field(std::string_view name, std::string_view value) {
  response.added.push(name, value);
}

void Exchange::set_upstream_field(std::string_view name, std::string_view value) {
  const FieldId id = field_id(name);
  if (id != FieldId::kOther) {
    request.fields.drop(id);
  } else if (request.fields.has(FieldId::kOther)) {
    for (Field& field : request.fields) {
      if (field.id == FieldId::kOther && equal_ignoring_case(field.name, name))
        field.dropped = true;
    }
  }
  request.added.push(Field{name, value, id, false});
}

void Exchange::set_target(const TargetLease& lease) {
  target = &lease.target();
  target_set = TargetSetRef(lease.set());
}

void Exchange::at_end(void (*run)(void* context), void* context) {
  auto* task = static_cast<EndTask*>(arena.allocate(sizeof(EndTask), alignof(EndTask)));
  end_tasks_ = new (task) EndTask{run, context, end_tasks_};
}

void Exchange::run_end_tasks() {
  for (EndTask* task = end_tasks_; task != nullptr; task = task->next) task->run(task->context);
  end_tasks_ = nullptr;
}

void Exchange::reset() {
  if (end_tasks_ != nullptr) run_end_tasks();
  runner = nullptr;
  worker = nullptr;
  generation = nullptr;
  listener = nullptr;
  route = nullptr;
  client = nullptr;
  connection = nullptr;
  early_data = false;
  request.head = {};
  request.target = {};
  request.authority = {};
  request.facts = {};
  request.fields.shrink();
  request.added.shrink();
  request.body_bytes = request.wire_bytes = 0;
  response.status = 0;
  response.phrase = {};
  response.fields.shrink();
  response.added.shrink();
  response.body = {};
  response.content = {};
  response.body_bytes = response.wire_bytes = 0;
  reason = Reason::kNone;
  times = {};
  client_text = {};
  peer_trusted = client_https = false;
  request_id = {};
  capture_count = 0;
  target = nullptr;
  target_set.reset();
  upstream_cells = nullptr;
  tries = 0;
  target_reused = false;
  grpc_status = -1;
  upstream_bytes_in = upstream_bytes_out = 0;
  arena.reset();
}

}  // namespace gatehouse
