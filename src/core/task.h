// Task<T>: a coroutine that owns its frame, and is cancelled by destroying it.
//
// A Task starts when it is first awaited (or by start()). Destroying a Task that is suspended
// destroys its frame, and with it the awaiter it is suspended in; every awaiter of this code base
// undoes its registration (event, timer, waiter list) in its destructor. So cancelling an exchange
// is leaving the scope that holds its Task.
//
// Frames come from per-thread free lists (see frame_pool.h): in the steady state no allocation.
//
// RULES for coroutines here, because of bugs in g++ 12 (t/lint/house_rules.py checks the first):
//   - co_await stands as a statement or an initialiser of its own, never inside a condition,
//     an argument list or a ?: expression;
//   - parameters are values, or references to what outlives the coroutine;
//   - what is awaited is no aggregate around an awaiter (g++ moves it as bytes, and the timer in it
//     still calls the old place), and a coroutine is no lambda within a Criterion test.
//
// A Task must not be destroyed while it runs: only the loop, or code awaiting it, destroys it.
// Exceptions must not leave a coroutine: one that does ends the process (the worker is replaced).
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "core/frame_pool.h"

namespace gatehouse {

template <typename T>
class Task;

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  static void* operator new(std::size_t size) { return FramePool::allocate(size); }
  static void operator delete(void* frame, std::size_t size) { FramePool::release(frame, size); }

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
      return handle.promise().continuation;
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  void return_value(T result) { value.emplace(std::move(result)); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
};

}  // namespace detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      cancel();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() { cancel(); }

  // Destroys the frame, wherever it is suspended. The Task is empty afterwards.
  void cancel() {
    if (handle_) std::exchange(handle_, nullptr).destroy();
  }

  // True while there is a coroutine, finished or not.
  explicit operator bool() const { return static_cast<bool>(handle_); }
  // REQUIRES: *this holds a coroutine.
  bool done() const { return handle_.done(); }

  // Runs the coroutine to its first suspension without awaiting it. REQUIRES: not yet started.
  void start() { handle_.resume(); }

  // The result of a finished coroutine. REQUIRES: done(), T is not void, not taken before.
  template <typename U = T>
  U take() {
    assert(done());
    return std::move(*handle_.promise().value);
  }

  // Where to go on when the coroutine finishes; used by awaiters only.
  void set_continuation(std::coroutine_handle<> continuation) {
    handle_.promise().continuation = continuation;
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    // Runs the coroutine to its first suspension, and does not suspend at all where it finished.
    // A symmetric transfer would be shorter, but g++ makes it a jump only from -O2 on, and never
    // under the sanitizers: a loop over tasks that need not wait would grow the stack each time.
    bool await_suspend(std::coroutine_handle<> awaiting) const {
      handle.resume();
      if (handle.done()) return false;
      handle.promise().continuation = awaiting;
      return true;
    }
    T await_resume() const {
      if constexpr (!std::is_void_v<T>) return std::move(*handle.promise().value);
    }
  };
  // Awaits from the start. The Task itself stays with the caller until the full expression ends.
  Awaiter operator co_await() const& noexcept { return Awaiter{handle_}; }
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace detail {

template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}

inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace detail

// Waits until at least one of two started Tasks is done; look at done() of each afterwards.
// Resumes the awaiting coroutine from inside the one that finishes. Both may be destroyed then.
template <typename A, typename B>
class AnyDone {
 public:
  AnyDone(Task<A>& a, Task<B>& b) : a_(a), b_(b) {}
  AnyDone(const AnyDone&) = delete;
  AnyDone& operator=(const AnyDone&) = delete;
  ~AnyDone() { detach(); }

  bool await_ready() const { return a_.done() || b_.done(); }
  void await_suspend(std::coroutine_handle<> awaiting) {
    a_.set_continuation(awaiting);
    b_.set_continuation(awaiting);
    attached_ = true;
  }
  void await_resume() { detach(); }

 private:
  void detach() {
    if (!attached_) return;
    attached_ = false;
    if (a_) a_.set_continuation(std::noop_coroutine());
    if (b_) b_.set_continuation(std::noop_coroutine());
  }

  Task<A>& a_;
  Task<B>& b_;
  bool attached_ = false;
};

template <typename A, typename B>
AnyDone<A, B> any_done(Task<A>& a, Task<B>& b) {
  return AnyDone<A, B>(a, b);
}

// Waits until a started Task is done; take() its result afterwards.
template <typename T>
class Done {
 public:
  explicit Done(Task<T>& task) : task_(task) {}
  Done(const Done&) = delete;
  Done& operator=(const Done&) = delete;
  ~Done() {
    if (attached_ && task_) task_.set_continuation(std::noop_coroutine());
  }
  bool await_ready() const { return task_.done(); }
  void await_suspend(std::coroutine_handle<> awaiting) {
    task_.set_continuation(awaiting);
    attached_ = true;
  }
  void await_resume() { attached_ = false; }

 private:
  Task<T>& task_;
  bool attached_ = false;
};

template <typename T>
Done<T> done(Task<T>& task) {
  return Done<T>(task);
}

}  // namespace gatehouse
