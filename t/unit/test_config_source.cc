// Sources: includes, their order, cycles and failures; the way through a memfd.
#include "core/config_source.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "core/config_reader.h"
#include "core/sealed_bytes.h"

namespace gatehouse {
namespace {

// Everything that travels with it.
std::string sealed(const ConfigSource& source) {
  const Result<UniqueFd> fd = source.to_memfd();
  return *read_sealed(fd->get(), kMaxSealedConfig);
}

// A folder of its own for each test, and the working directory while it runs, so that paths in
// messages are relative. Criterion runs each test in a process of its own.
std::string& folder() {
  static std::string path;
  return path;
}

void enter_folder() {
  std::array<char, 64> name{"/tmp/gatehouse-config-XXXXXX"};
  cr_assert_not_null(mkdtemp(name.data()));
  folder() = name.data();
  cr_assert_eq(chdir(name.data()), 0);
}

void leave_folder() {
  cr_assert_eq(chdir("/"), 0);
  std::filesystem::remove_all(folder());
}

TestSuite(config_source, .init = enter_folder, .fini = leave_folder);

void write(const std::string& path, std::string_view text) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent);
  std::ofstream(path, std::ios::binary) << text;
}

// The sections with their keys, each with its place, then the errors.
std::string describe(const ConfigSource& source) {
  ConfigErrors errors;
  std::string out;
  for (const RawSection& section : read_config(source, errors)) {
    out += source.where(section.origin) + " [" + section.kind + "]\n";
    for (const RawEntry& entry : section.entries) {
      out += source.where(entry.origin) + " " + entry.key + "=" + entry.value + "\n";
    }
  }
  return out + errors.text();
}

std::string load(const std::string& path) {
  const Result<ConfigSource> source = ConfigSource::load(path);
  if (!source) return source.error().message;
  const std::string direct = describe(*source);
  // Whatever was loaded has to read the same at the other end of a memfd.
  const Result<UniqueFd> fd = source->to_memfd();
  cr_assert(fd.ok());
  const Result<ConfigSource> copy = ConfigSource::from_memfd(fd->get());
  cr_assert(copy.ok(), "%s", copy.ok() ? "" : copy.error().message.c_str());
  const std::string transported = describe(*copy);
  cr_assert(transported == direct, "%s differs from %s", transported.c_str(), direct.c_str());
  cr_assert_eq(sealed(*copy), sealed(*source));
  return direct;
}

void check(const std::string& path, std::string_view expected) {
  const std::string got = load(path);
  cr_assert(got == expected, "got:\n%s\nexpected:\n%.*s", got.c_str(),
            static_cast<int>(expected.size()), expected.data());
}

Test(config_source, includes_are_read_in_place_and_in_order) {
  write("main.conf", "include = first.conf\n[a]\nx = 1\ninclude = d/*.conf\ny = 2\n[b]\nz = 3\n");
  write("first.conf", "[f]\nk = v\n");
  write("d/20.conf", "[d20]\n");
  write("d/10.conf", "[d10]\nk = v\n");
  write("d/9.conf", "[d9]\n");
  write("d/B.conf", "[dB]\n");
  write("d/a.conf", "[da]\n");
  write("d/ignored", "[no]\n");
  check("main.conf",
        "first.conf:1 [f]\n"
        "first.conf:2 k=v\n"
        "main.conf:2 [a]\n"
        "main.conf:3 x=1\n"
        "main.conf:5 y=2\n"
        "d/10.conf:1 [d10]\n"
        "d/10.conf:2 k=v\n"
        "d/20.conf:1 [d20]\n"
        "d/9.conf:1 [d9]\n"
        "d/B.conf:1 [dB]\n"
        "d/a.conf:1 [da]\n"
        "main.conf:6 [b]\n"
        "main.conf:7 z=3\n");
}

Test(config_source, includes_are_relative_to_the_file_they_stand_in) {
  write("etc/main.conf", "include = sub/one.conf\n");
  write("etc/sub/one.conf", "include = two.conf\ninclude = ../three.conf\n");
  write("etc/sub/two.conf", "[two]\n");
  write("etc/three.conf", "[three]\ninclude = " + folder() + "/absolute.conf\n");
  write("absolute.conf", "[absolute]\n");
  check("etc/main.conf", "etc/sub/two.conf:1 [two]\netc/sub/../three.conf:1 [three]\n" + folder() +
                             "/absolute.conf:1 [absolute]\n");
}

Test(config_source, a_section_does_not_reach_into_included_files) {
  write("main.conf", "[a]\ninclude = keys.conf\n");
  write("keys.conf", "k = v\n");
  check("main.conf",
        "main.conf:1 [a]\n"
        "keys.conf:1: k = v: a key outside of any section\n"
        "    expected: a line such as [route app] before it; only include may stand alone\n");
}

Test(config_source, an_empty_pattern_match_is_fine_and_a_missing_file_is_not) {
  write("main.conf", "include = none/*.conf\ninclude = no-[x]?.conf\ninclude = none.conf\n[a]\n");
  check("main.conf",
        "main.conf:4 [a]\n"
        "main.conf:3: include = none.conf: cannot open none.conf: No such file or directory\n"
        "    expected: a file relative to this one, or a pattern with * such as conf.d/*.conf\n");
}

Test(config_source, all_failing_includes_are_told) {
  std::filesystem::create_directories("folder.conf");
  cr_assert_eq(mkfifo("fifo.conf", 0600), 0);
  write("main.conf", "[a]\ninclude = *.conf\ninclude =\ninclude = gone\ninclude = ${GH_UNSET}\n");
  const std::string hint =
      "    expected: a file relative to this one, or a pattern with * such as conf.d/*.conf\n";
  check("main.conf",
        "main.conf:1 [a]\n"
        "main.conf:2: [a] include = *.conf: cannot read fifo.conf: not a regular file\n" +
            hint + "main.conf:2: [a] include = *.conf: cannot read folder.conf: Is a directory\n" +
            hint +
            "main.conf:2: [a] include = *.conf: includes itself\n"
            "    the chain: main.conf -> main.conf\n"
            "main.conf:3: [a] include: no value\n"
            "    expected: a file or a pattern such as conf.d/*.conf\n"
            "main.conf:4: [a] include = gone: cannot open gone: No such file or directory\n" +
            hint +
            "main.conf:5: [a] include = ${GH_UNSET}: the environment has no variable GH_UNSET\n"
            "    expected: ${NAME} of a variable that is set; $${ stands for a plain ${\n");
}

Test(config_source, cycles_are_refused_with_the_chain) {
  write("main.conf", "include = a.conf\n");
  write("a.conf", "[a]\ninclude = d/b.conf\n");
  write("d/b.conf", "[b]\ninclude = ../a.conf\n[c]\n");
  cr_assert_eq(symlink("a.conf", "link.conf"), 0);
  check("main.conf",
        "a.conf:1 [a]\nd/b.conf:1 [b]\nd/b.conf:3 [c]\n"
        "d/b.conf:2: [b] include = ../a.conf: includes itself\n"
        "    the chain: a.conf -> d/b.conf -> d/../a.conf\n");
  write("d/b.conf", "include = ../link.conf\n");
  check("main.conf",
        "a.conf:1 [a]\n"
        "d/b.conf:1: include = ../link.conf: includes itself\n"
        "    the chain: a.conf -> d/b.conf -> d/../link.conf\n");
}

Test(config_source, one_file_may_be_included_twice_where_it_is_no_cycle) {
  write("main.conf", "include = a.conf\ninclude = a.conf\n");
  write("a.conf", "[a]\n");
  check("main.conf", "a.conf:1 [a]\na.conf:1 [a]\n");
}

Test(config_source, depth_and_number_of_files_are_limited) {
  for (size_t i = 0; i < kMaxIncludeDepth + 3; ++i) {
    write(std::to_string(i),
          "include = " + std::to_string(i + 1) + "\n[s" + std::to_string(i) + "]\n");
  }
  const std::string got = load("0");
  cr_assert(got.find("16:1: include = 17: included too deep\n    expected: at most 16 files in a "
                     "chain\n") != std::string::npos,
            "%s", got.c_str());
  cr_assert(got.find("[s16]") != std::string::npos);
  cr_assert(got.find("[s17]") == std::string::npos);

  // Each of eight files includes the next one four times: 4^8 would be 65,536 inclusions.
  for (int i = 0; i < 8; ++i) {
    std::string text;
    for (int j = 0; j < 4; ++j) text += "include = n" + std::to_string(i + 1) + "\n";
    write("n" + std::to_string(i), text);
  }
  write("n8", "[x]\n");
  const Result<ConfigSource> source = ConfigSource::load("n0");
  cr_assert(source.ok());
  cr_assert_eq(source->files().size(), kMaxConfigFiles);
  cr_assert(describe(*source).find("too many files") != std::string::npos);
}

// Comments of `size` bytes in long lines, because millions of empty ones would only cost time.
std::string comments(size_t size) {
  std::string text;
  text.reserve(size);
  while (text.size() + 1024 <= size) text += "#" + std::string(1022, 'x') + "\n";
  return text + std::string(size - text.size(), '\n');
}

Test(config_source, sizes_are_limited) {
  write("large.conf", comments(kMaxConfigFileBytes + 1));
  check("large.conf", "large.conf is larger than 16m, the most that is read");
  write("main.conf", "include = large.conf\n");
  cr_assert(load("main.conf").find("large.conf is larger than 16m") != std::string::npos);
  write("full.conf", comments(kMaxConfigFileBytes));
  write("main.conf",
        "include = full.conf\ninclude = full.conf\ninclude = full.conf\ninclude = full.conf\n");
  check("main.conf",
        "main.conf:4: include = full.conf: too much configuration\n"
        "    expected: at most 64m in all files\n");
}

Test(config_source, a_main_file_that_cannot_be_read_is_the_only_failure) {
  check("gone.conf", "cannot open gone.conf: No such file or directory");
  check("/", "cannot read /: Is a directory");
}

Test(config_source, the_main_file_may_be_a_pipe) {
  std::array<int, 2> ends{};
  cr_assert_eq(pipe(ends.data()), 0);
  cr_assert_eq(::write(ends[1], "[a]\n", 4), 4);
  close(ends[1]);
  const std::string path = "/dev/fd/" + std::to_string(ends[0]);
  check(path, path + ":1 [a]\n");
}

Test(config_source, text_in_memory_follows_includes) {
  write("d/a.conf", "[a]\n");
  const ConfigSource source = ConfigSource::from_text("d/main.conf", "include = a.conf\n[m]\n");
  cr_assert(describe(source) == "d/a.conf:1 [a]\nd/main.conf:2 [m]\n");
  cr_assert_eq(source.bytes(), 25U);
  cr_assert_eq(source.included_at({0, 1}).size(), 1U);
  cr_assert(source.included_at({0, 2}).empty());
}

// The other process has its own environment and file system; neither may matter to it.
Test(config_source, a_memfd_carries_environment_and_includes) {
  setenv("GH_TEST_VALUE", "from the master", 1);
  setenv("GH_TEST_FILE", "a", 1);
  write("a.conf", "[a]\nk = ${GH_TEST_VALUE}\n");
  const ConfigSource source = ConfigSource::from_text("m", "include = ${GH_TEST_FILE}.conf\n");
  const Result<UniqueFd> fd = source.to_memfd();
  cr_assert(fd.ok());
  setenv("GH_TEST_VALUE", "something else", 1);
  unsetenv("GH_TEST_FILE");
  std::filesystem::remove("a.conf");
  cr_assert_eq(lseek(fd->get(), 0, SEEK_END) > 0, true);
  const Result<ConfigSource> copy = ConfigSource::from_memfd(fd->get());
  cr_assert(copy.ok());
  cr_assert(describe(*copy) == "a.conf:1 [a]\na.conf:2 k=from the master\n");
}

Test(config_source, a_memfd_cannot_be_changed) {
  const Result<UniqueFd> fd = ConfigSource::from_text("m", "[a]\n").to_memfd();
  cr_assert(fd.ok());
  cr_assert_eq(::write(fd->get(), "x", 1), -1);
  cr_assert_eq(ftruncate(fd->get(), 0), -1);
  cr_assert_neq(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
}

UniqueFd sealed(std::string_view bytes, int seals) {
  UniqueFd fd(memfd_create("test", MFD_ALLOW_SEALING));
  cr_assert_eq(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  cr_assert_eq(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

Test(config_source, an_attachment_is_read_once_and_travels_along) {
  write("conf/main.conf", "[gatehouse]\n");
  write("conf/page.html", "first");
  const Result<ConfigSource> source = ConfigSource::load("conf/main.conf");
  cr_assert(source.ok());
  const Origin origin{0, 1};
  const std::string before = sealed(*source);
  cr_assert_eq(source->attachment("page.html", origin, 5).value(), "first");
  cr_assert_neq(sealed(*source), before, "its bytes are part of the configuration");
  write("conf/page.html", "second");
  cr_assert_eq(source->attachment("page.html", origin, 100).value(), "first");
  cr_assert_not(source->attachment("page.html", origin, 4).ok());
  cr_assert_not(source->attachment("missing.html", origin, 100).ok());
  cr_assert_not(source->attachment(".", origin, 100).ok());

  const Result<UniqueFd> fd = source->to_memfd();
  cr_assert(fd.ok());
  const Result<ConfigSource> copy = ConfigSource::from_memfd(fd->get());
  cr_assert(copy.ok());
  std::filesystem::remove_all("conf");
  cr_assert_eq(copy->attachment("page.html", origin, 100).value(), "first");
}

Test(config_source, unsealed_and_malformed_memfds_are_refused) {
  constexpr int kAll = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  const Result<UniqueFd> good = ConfigSource::from_text("m", "[a]\nk = ${HOME}\n").to_memfd();
  cr_assert(good.ok());
  std::string bytes(4096, '\0');
  bytes.resize(static_cast<size_t>(pread(good->get(), bytes.data(), bytes.size(), 0)));

  cr_assert(ConfigSource::from_memfd(sealed(bytes, kAll).get()).ok());
  for (const int seal : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_SEAL}) {
    cr_assert_not(ConfigSource::from_memfd(sealed(bytes, kAll & ~seal).get()).ok());
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    cr_assert_not(ConfigSource::from_memfd(sealed(bytes.substr(0, size), kAll).get()).ok());
  }
  cr_assert_not(ConfigSource::from_memfd(sealed(bytes + "x", kAll).get()).ok());
  // Any single byte may be wrong: that is refused or read as something, and never a crash.
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string wrong = bytes;
    wrong[i] = static_cast<char>(wrong[i] ^ 0x81);
    const Result<ConfigSource> source = ConfigSource::from_memfd(sealed(wrong, kAll).get());
    if (source) describe(*source);
  }
  std::array<int, 2> ends{};
  cr_assert_eq(pipe(ends.data()), 0);
  cr_assert_not(ConfigSource::from_memfd(ends[0]).ok());
  cr_assert_not(ConfigSource::from_memfd(-1).ok());
}

}  // namespace
}  // namespace gatehouse
