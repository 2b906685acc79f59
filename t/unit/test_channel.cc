// Messages and descriptors over the channel between master and worker.
#include "core/channel.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace {

using gatehouse::channel_receive;
using gatehouse::channel_send;
using gatehouse::ChannelMessage;
using gatehouse::ChannelPair;
using gatehouse::ChannelStatus;
using gatehouse::ChannelVerb;
using gatehouse::Error;
using gatehouse::make_channel;

}  // namespace

Test(channel, messages_arrive_in_order_and_whole) {
  ChannelPair pair = std::move(*make_channel());
  cr_assert(channel_send(pair.worker.get(), ChannelVerb::kReady) == ChannelStatus::kOk);
  cr_assert(channel_send(pair.worker.get(), ChannelVerb::kPrepared, 42) == ChannelStatus::kOk);
  ChannelMessage message;
  cr_assert(channel_receive(pair.master.get(), message) == ChannelStatus::kOk);
  cr_assert(message.verb == ChannelVerb::kReady && message.argument == 0 && message.fds.empty());
  cr_assert(channel_receive(pair.master.get(), message) == ChannelStatus::kOk);
  cr_assert(message.verb == ChannelVerb::kPrepared && message.argument == 42);
  cr_assert(channel_receive(pair.master.get(), message) == ChannelStatus::kWouldBlock);
}

Test(channel, descriptors_travel_and_are_closed_on_exec) {
  ChannelPair pair = std::move(*make_channel());
  int ends[2];
  cr_assert(pipe2(ends, O_CLOEXEC) == 0);
  cr_assert(channel_send(pair.master.get(), ChannelVerb::kReopenLog, 3, {ends[1], ends[0]}) ==
            ChannelStatus::kOk);
  ChannelMessage message;
  cr_assert(channel_receive(pair.worker.get(), message) == ChannelStatus::kOk);
  cr_assert(message.argument == 3 && message.fds.size() == 2);
  cr_assert((fcntl(message.fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  cr_assert(write(message.fds[0].get(), "x", 1) == 1);
  char byte = 0;
  cr_assert(read(ends[0], &byte, 1) == 1 && byte == 'x');
}

Test(channel, the_other_side_gone_is_told_from_silence) {
  ChannelPair pair = std::move(*make_channel());
  ChannelMessage message;
  cr_assert(channel_receive(pair.worker.get(), message) == ChannelStatus::kWouldBlock);
  channel_send(pair.master.get(), ChannelVerb::kDrain);
  pair.master.reset();
  cr_assert(channel_receive(pair.worker.get(), message) == ChannelStatus::kOk, "what was said");
  cr_assert(channel_receive(pair.worker.get(), message) == ChannelStatus::kClosed);
  cr_assert(channel_send(pair.worker.get(), ChannelVerb::kReady) == ChannelStatus::kClosed);
}

Test(channel, a_full_channel_does_not_block) {
  ChannelPair pair = std::move(*make_channel());
  ChannelStatus status = ChannelStatus::kOk;
  int sent = 0;
  while (status == ChannelStatus::kOk && sent < 1000000) {
    status = channel_send(pair.master.get(), ChannelVerb::kSwitch);
    ++sent;
  }
  cr_assert(status == ChannelStatus::kWouldBlock);
  cr_assert(sent > 16, "room for the orders of any one moment");
}

Test(channel, other_sizes_are_refused_and_leak_nothing) {
  ChannelPair pair = std::move(*make_channel());
  ChannelMessage message;
  Error error;
  cr_assert(send(pair.worker.get(), "short", 5, 0) == 5);
  cr_assert(channel_receive(pair.master.get(), message, &error) == ChannelStatus::kFailed);
  cr_assert(error.message.find("5 bytes") != std::string::npos);
  cr_assert(send(pair.worker.get(), "much too long", 13, 0) == 13);
  cr_assert(channel_receive(pair.master.get(), message, &error) == ChannelStatus::kFailed);
  cr_assert(channel_send(pair.worker.get(), ChannelVerb::kReady) == ChannelStatus::kOk);
  cr_assert(channel_receive(pair.master.get(), message) == ChannelStatus::kOk, "goes on after it");

  std::vector<int> many(gatehouse::kChannelFdsMax + 1, 0);
  cr_assert(channel_send(pair.master.get(), ChannelVerb::kPrepare, 0, many, &error) ==
            ChannelStatus::kFailed);
}
