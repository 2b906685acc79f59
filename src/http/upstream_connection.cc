// Keeping idle connections; see upstream_connection.h.
#include "http/upstream_connection.h"

#include "http/h2_pool.h"
#include "http/target_states.h"

namespace gatehouse {

UpstreamConnection::UpstreamConnection(EventLoop& loop, UniqueFd fd, TargetState& state)
    : stream_(loop, fd.release()), state_(state), opened_(loop.now()) {
  state_.cells().connections.add();
  state_.cells().connections_active.add(1);
  ++state_.connections_;
}

UpstreamConnection::~UpstreamConnection() {
  state_.cells().connections_active.add(-1);
  --state_.connections_;
  if (state_.unused() && state_.states_ != nullptr) state_.states_->leave(state_);
}

TargetState::TargetState(EventLoop& loop, std::string key, SeriesCells& cells, TargetStates* states)
    : loop_(loop), key_(std::move(key)), cells_(cells), states_(states) {}

TargetState::~TargetState() {
  leaving_ = true;  // nobody is to be told of the connections that end here
  h2_.reset();
  close_idle();
  if (row_ != nullptr) states_->table()->release(states_->worker_row(), row_index_);
  if (upstream_ != nullptr) states_->release(*upstream_);
}

void TargetState::close_idle() {
  while (newest_ != nullptr) close_rested(*newest_);
  if (h2_ != nullptr) h2_->retire();
}

void TargetState::close_rested(UpstreamConnection& connection) {
  unlink(connection);
  connection.say_goodbye();
  delete &connection;
}

H2Pool& TargetState::h2() {
  if (h2_ == nullptr) h2_ = std::make_unique<H2Pool>(loop_, *this);
  return *h2_;
}

void TargetState::unlink(UpstreamConnection& connection) {
  (connection.newer_ != nullptr ? connection.newer_->older_ : newest_) = connection.older_;
  (connection.older_ != nullptr ? connection.older_->newer_ : oldest_) = connection.newer_;
  connection.newer_ = connection.older_ = nullptr;
  --idle_count_;
}

std::unique_ptr<UpstreamConnection> TargetState::take_idle(std::string_view header) {
  for (UpstreamConnection* next = newest_; next != nullptr;) {
    UpstreamConnection* const here = std::exchange(next, next->older_);
    if (here->header_ != header) [[unlikely]]
      continue;
    std::unique_ptr<UpstreamConnection> connection(here);
    unlink(*connection);
    connection->stream().watch_activity(nullptr, nullptr);
    // Bytes or an end that came while nobody asked: the connection is of no use.
    if (!connection->stream().may_read()) return connection;
  }
  return nullptr;
}

void TargetState::give_back(std::unique_ptr<UpstreamConnection> connection,
                            const UpstreamConf& conf) {
  ++connection->exchanges_;
  const Moment now = loop_.now();
  const bool worn_out =
      (conf.keepalive_requests != 0 && connection->exchanges_ >= conf.keepalive_requests) ||
      (conf.keepalive_age != Duration::zero() && now >= connection->opened_ + conf.keepalive_age);
  // A target that is named no more gets no other exchange.
  const bool unnamed = holders_ == 0 && states_ != nullptr;
  if (worn_out || unnamed || conf.keepalive == 0 || connection->stream().may_read()) {
    connection->say_goodbye();
    return;
  }
  if (idle_count_ >= conf.keepalive) close_rested(*oldest_);
  UpstreamConnection* idle = connection.release();
  idle->stream().watch_activity(&TargetState::on_idle_activity, idle);
  idle->idle_since_ = now;
  idle->older_ = newest_;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = idle;
  newest_ = idle;
  ++idle_count_;
  idle_timeout_ = conf.keepalive_timeout;
  // One timer for all: it looks at the oldest when that one's time may have come.
  if (!expiry_.armed()) loop_.arm(expiry_, idle_timeout_);
}

void TargetState::on_idle_activity(void* connection) {
  auto* idle = static_cast<UpstreamConnection*>(connection);
  idle->state_.close_rested(*idle);
}

void TargetState::on_expiry(void* self) {
  auto* state = static_cast<TargetState*>(self);
  const Moment now = state->loop_.now();
  while (state->oldest_ != nullptr && now >= state->oldest_->idle_since_ + state->idle_timeout_) {
    state->close_rested(*state->oldest_);
  }
  if (state->oldest_ != nullptr) {
    state->loop_.arm(state->expiry_, state->oldest_->idle_since_ + state->idle_timeout_);
  }
}

}  // namespace gatehouse
