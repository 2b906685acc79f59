// The log rotator with a master that obeys, refuses, or does so half, on a real folder.
#include "agent/log_rotator.h"

#include <criterion/criterion.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "log_folder.h"

namespace gatehouse {
namespace {

using test::LogFolder;

constexpr int64_t kSecond = 1'000'000;

// The rotator, its thread, and a master with one worker that writes to the log.
struct Stage {
  LogFolder folder;
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<JobThread> jobs;
  std::unique_ptr<LogRotator> rotator;
  std::deque<LogRotator::Reopened> asked;
  int64_t now_us = 1'795'262'400'000'000;
  int fd = -1;
  std::string written;

  Stage() {
    loop = std::move(*EventLoop::create());
    start();
    open_log();
  }
  ~Stage() {
    stop();
    close(fd);
  }
  void start() {
    jobs = std::move(*JobThread::start(*loop));
    rotator = std::make_unique<LogRotator>(
        *jobs, [this](LogRotator::Reopened done) { asked.push_back(std::move(done)); });
  }
  void stop() {
    asked.clear();
    rotator.reset();
    jobs.reset();
  }
  void rule(const char* text) {
    Result<LogRotation> rotation = ValueType<LogRotation>::parse(text);
    cr_assert(rotation.ok());
    rotator->set_rules({{folder.log(), *rotation}});
  }
  void open_log() {
    if (fd >= 0) close(fd);
    fd = open(folder.log().c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    cr_assert_geq(fd, 0);
  }
  void log(const std::string& text) {
    cr_assert_eq(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    written += text;
  }
  void tick(int64_t seconds = 1) {
    now_us += seconds * kSecond;
    rotator->tick(now_us);
  }
  void answer(Result<void> result) {
    cr_assert_eq(asked.size(), 1, "%zu questions", asked.size());
    LogRotator::Reopened done = std::move(asked.front());
    asked.pop_front();
    done(result);
  }
  // Waits for the packing thread.
  void settle() {
    while (rotator->busy()) loop->turn(true);
  }
  std::string error() const { return rotator->status()[0].error; }
  size_t old_files() const { return folder.names().size() - (folder.has("access.log") ? 1 : 0); }
};

const std::string kLines(2000, 'x');

}  // namespace

Test(log_rotator, moves_reopens_packs_and_keeps_as_many_as_told) {
  Stage stage;
  stage.rule("size 1k, keep 3");
  for (int i = 0; i < 6; ++i) {
    stage.log(std::to_string(i) + kLines);
    stage.tick();
    cr_assert(!stage.folder.has("access.log"));
    stage.log("late\n");
    stage.open_log();
    stage.answer({});
    stage.settle();
  }
  const std::vector<std::string> names = stage.folder.names();
  cr_assert_eq(names.size(), 4);
  cr_assert(stage.folder.read(names[3]) == "5" + kLines + "late\n", "%s", names[3].c_str());
  cr_assert(names[3].ends_with(".gz"));
  cr_assert_eq(stage.rotator->status()[0].rotations, 6);
  cr_assert_eq(stage.rotator->status()[0].failures, 0);
}

Test(log_rotator, several_rotations_in_one_second_get_names_of_their_own) {
  Stage stage;
  stage.rule("size 1k, compress off");
  for (int i = 0; i < 5; ++i) {
    stage.log(kLines);
    stage.tick(0);
    stage.open_log();
    stage.answer({});
  }
  cr_assert_eq(stage.old_files(), 5);
  cr_assert(stage.folder.everything() == stage.written);
}

Test(log_rotator, nothing_is_packed_before_the_master_has_answered) {
  Stage stage;
  stage.rule("size 1k");
  stage.log(kLines);
  for (int i = 0; i < 5; ++i) stage.tick();
  cr_assert_eq(stage.asked.size(), 1, "one question at a time");
  cr_assert_eq(stage.folder.names().size(), 1);
  cr_assert(!stage.folder.names()[0].ends_with(".gz"));
  stage.open_log();
  stage.answer({});
  stage.settle();
  cr_assert(stage.folder.everything() == stage.written);
}

Test(log_rotator, a_file_that_a_worker_still_holds_waits) {
  Stage stage;
  stage.rule("size 1k");
  stage.log(kLines);
  stage.tick();
  // The master said yes, and yet somebody (who drains under another master) has not reopened.
  stage.answer({});
  stage.settle();
  cr_assert(!stage.folder.names()[0].ends_with(".gz"));
  stage.log("late\n");
  stage.open_log();
  stage.tick(5);
  stage.settle();
  cr_assert(stage.folder.names()[1].ends_with(".gz"));
  cr_assert(stage.folder.everything() == stage.written);
}

Test(log_rotator, a_refusal_puts_the_log_back_and_tries_later) {
  Stage stage;
  stage.rule("size 1k");
  stage.log(kLines);
  stage.tick();
  stage.answer(Error{"not now"});
  cr_assert_eq(stage.folder.names(), (std::vector<std::string>{"access.log"}));
  cr_assert(stage.error().find("not now") != std::string::npos);
  stage.log("on it goes\n");
  stage.tick(1);
  cr_assert(stage.asked.empty(), "not at once");
  stage.tick(5);
  stage.open_log();
  stage.answer({});
  stage.settle();
  cr_assert(stage.folder.everything() == stage.written);
  cr_assert_eq(stage.error(), "");
}

Test(log_rotator, a_reopening_that_was_only_begun_is_asked_for_again) {
  Stage stage;
  stage.rule("size 1k");
  stage.log(kLines);
  stage.tick();
  // The new file is there, but not all of the workers know.
  stage.folder.write("access.log", "");
  stage.answer(Error{"worker default/1 is gone"});
  stage.log("to the old one\n");
  cr_assert_eq(stage.old_files(), 1);
  stage.tick(5);
  stage.open_log();
  stage.answer({});
  stage.settle();
  cr_assert(stage.folder.everything() == stage.written);
  cr_assert(stage.folder.names()[1].ends_with(".gz"));
}

Test(log_rotator, what_a_killed_agent_left_is_finished) {
  Stage stage;
  stage.stop();
  // Killed: after the move; while packing; after packing, before the plain file was removed.
  const std::string a = rotated_name("access.log", stage.now_us - 30 * kSecond, 0);
  const std::string b = rotated_name("access.log", stage.now_us - 20 * kSecond, 0);
  const std::string c = rotated_name("access.log", stage.now_us - 10 * kSecond, 0);
  stage.folder.write(a, "a\n");
  stage.folder.write(b, "b\n");
  stage.folder.write(b + ".gz.part", "\x1f\x8b");
  stage.folder.write(c, "c\n");
  stage.folder.write(c + ".gz", "(a whole one)");
  stage.start();
  stage.rule("size 1k");
  stage.tick();
  cr_assert(!stage.folder.has(b + ".gz.part"));
  cr_assert(stage.folder.has(a), "not before a reopen");
  stage.answer({});
  stage.settle();
  cr_assert_eq(stage.folder.names(),
               (std::vector<std::string>{"access.log", a + ".gz", b + ".gz", c + ".gz"}));
  cr_assert_eq(stage.folder.everything(), "a\nb\nc\n");
}

Test(log_rotator, a_log_that_is_gone_since_the_move_is_reopened_even_if_nothing_is_packed) {
  Stage stage;
  stage.log("x\n");
  const std::string moved = rotated_name("access.log", stage.now_us - kSecond, 0);
  cr_assert_eq(rename(stage.folder.log().c_str(), (stage.folder.path + "/" + moved).c_str()), 0);
  stage.rule("size 1k, compress off");
  stage.tick();
  stage.open_log();
  stage.answer({});
  cr_assert_eq(stage.folder.names(), (std::vector<std::string>{"access.log", moved}));
}

Test(log_rotator, age_counts_from_the_making_of_the_file) {
  Stage stage;
  stage.rule("age 1h");
  const Result<LogFileState> state = look_at_log(stage.folder.log());
  const int64_t begun = state->begun_us != 0 ? state->begun_us : stage.now_us;
  stage.now_us = begun;
  stage.tick(0);
  stage.tick(3599);
  cr_assert(stage.asked.empty());
  stage.tick(2);
  cr_assert(stage.asked.empty(), "an empty log stays");
  stage.log("x");
  stage.tick(1);
  cr_assert_eq(stage.asked.size(), 1);
}

Test(log_rotator, old_ones_go_with_time_also_without_a_rotation) {
  Stage stage;
  const std::string old = rotated_name("access.log", stage.now_us - 59 * kSecond, 0);
  stage.folder.write(old + ".gz", "x");
  stage.rule("size 1m, keep_age 1m");
  stage.tick(0);
  cr_assert(stage.folder.has(old + ".gz"));
  stage.tick(60);
  cr_assert(!stage.folder.has(old + ".gz"));
}

Test(log_rotator, of_two_agents_one_rotates) {
  Stage stage;
  Result<UniqueFd> other = lock_log(stage.folder.log());
  stage.rule("size 1k");
  stage.log(kLines);
  stage.tick();
  cr_assert(stage.asked.empty());
  other->reset();
  stage.tick();
  cr_assert_eq(stage.asked.size(), 1);
}

Test(log_rotator, a_rule_that_goes_lets_the_log_go) {
  Stage stage;
  stage.rule("size 1k");
  stage.tick();
  stage.rotator->set_rules({});
  Result<UniqueFd> other = lock_log(stage.folder.log());
  cr_assert(other.ok() && *other);
}

Test(log_rotator, what_cannot_be_rotated_is_said_once) {
  Stage stage;
  unlink(stage.folder.log().c_str());
  cr_assert_eq(symlink("/dev/null", stage.folder.log().c_str()), 0);
  stage.rule("size 1k");
  for (int i = 0; i < 300; ++i) stage.tick();
  cr_assert(stage.error().find("not a regular file") != std::string::npos);
  cr_assert_lt(stage.rotator->status()[0].failures, 15, "the pause grows");
}

}  // namespace gatehouse
