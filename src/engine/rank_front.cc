#include "engine/rank_front.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>

#include "base/clock.h"
#include "engine/exit_codes.h"
#include "engine/front_socket.h"

namespace lockstep {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kGrace = 3 * kSecond;  // what mpirun gets to end its processes itself; it takes one or two
constexpr int64_t kLook = kSecond / 10;
constexpr int64_t kStopped = 5 * kSecond;  // so long the launcher may be stopped while this process runs
constexpr std::string_view kFolderPrefix = "lockstep-ranks-";

// OpenMPI's: root may start ranks, there may be more of them than cores, none is bound to one; the others go
// on when one dies, so that they can say what they saw; and mpirun does not comment on it. In the
// environment, where other makers' mpirun does not trip over them.
constexpr const char* kLauncherSettings[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                                {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                                {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                                                {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                                                {"OMPI_MCA_orte_enable_recovery", "1"},
                                                {"OMPI_MCA_orte_abort_on_non_zero_status", "0"},
                                                {"OMPI_MCA_orte_allowed_exit_without_sync", "1"},
                                                {"OMPI_MCA_orte_execute_quiet", "1"}};

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

// A new folder in `parent`; empty when there is no room for one.
std::string make_folder(const std::string& parent) {
  std::string path = concat(parent, "/", kFolderPrefix, "XXXXXX");
  return ::mkdtemp(path.data()) == nullptr ? "" : path;
}

void remove_folders(const std::vector<std::string>& folders) {
  std::error_code ignored;
  for (const std::string& folder : folders) std::filesystem::remove_all(folder, ignored);
}

sigset_t front_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1}) sigaddset(&signals, signal);
  // Whoever was started to outlive its terminal, by nohup, does.
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) != 0 || hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);
  return signals;
}

class Front {
 public:
  explicit Front(const RankJob& job) : job_(job), ends_(static_cast<size_t>(job.ranks)) {}
  ~Front();
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  Status open();
  Status start(const std::string& launcher);
  JobEnd watch();

 private:
  [[noreturn]] void become_janitor(int front_lives) const;
  [[noreturn]] void become_launcher(const std::string& launcher, int32_t front) const;
  void look(int64_t patience_ms);
  void accept_rank();
  void hear(int connection);
  void take_signals();
  void hear_of_launcher();
  void count_stopped(int64_t now);
  void end_launcher(int signal);
  enum class Who { kAll, kSilent };  // kSilent: those that have not said how they end
  void signal_ranks(int signal, Who who);
  void trouble(int64_t patience_ns);

  const RankJob& job_;
  std::string socket_;
  std::vector<std::string> folders_;  // for MPI's files: the last one in shared memory where there is any
  sigset_t before_{};
  int signals_ = -1;
  int listening_ = -1;
  int front_lives_ = -1;  // the end of a pipe that closes with this process
  pid_t janitor_ = 0;
  pid_t launcher_ = 0;
  bool launcher_ended_ = false;
  int launcher_status_ = 0;
  bool launcher_stopped_ = false;
  int64_t stopped_for_ = 0;  // as far as this process ran itself: Ctrl-Z stops both
  int64_t looked_at_ = 0;
  std::string said_;           // why this front has ended the job
  int signal_ = 0;             // that a person ended the job with
  int64_t patience_ends_ = 0;  // once a rank has vanished or failed: when the others are ended; 0: none has
  int64_t ending_ = 0;         // since when the launcher has been told to end; 0: it has not
  std::map<int, RankEnd*> connections_;  // null: it has not said who it is
  std::vector<RankEnd> ends_;            // [ranks]
};

Status Front::open() {
  const sigset_t mine = front_signals();
  pthread_sigmask(SIG_BLOCK, &mine, &before_);
  signals_ = ::signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) return error(Code::kResourceExhausted, "ranks: no signalfd: ", std::strerror(errno));
  const char* temporary = std::getenv("TMPDIR");
  const std::string folder = make_folder(temporary == nullptr || *temporary == 0 ? "/tmp" : temporary);
  if (folder.empty()) {
    return error(Code::kResourceExhausted, "ranks: cannot make a folder in TMPDIR: ", std::strerror(errno));
  }
  folders_.push_back(folder);
  const std::string name = std::filesystem::path(folder).filename();
  const std::string memory = "/dev/shm/" + name;
  if (::mkdir(memory.c_str(), S_IRWXU) == 0) folders_.push_back(memory);
  socket_ = concat(name, "-", ::getpid());
  listening_ = LS_TRY(listen_as_front(socket_));
  return {};
}

Front::~Front() {
  signal_ranks(SIGKILL, Who::kAll);
  for (const auto& [connection, end] : connections_) ::close(connection);
  if (listening_ >= 0) ::close(listening_);
  if (signals_ >= 0) ::close(signals_);
  remove_folders(folders_);
  if (front_lives_ >= 0) ::close(front_lives_);
  if (janitor_ > 0) ::waitpid(janitor_, nullptr, 0);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

// Should the front be killed, somebody has to sweep after the launcher has ended.
void Front::become_janitor(int front_lives) const {
  ::setsid();
  ::dup2(front_lives, 0);
  ::close_range(1, ~0U, 0);
  char nothing = 0;
  while (::read(0, &nothing, 1) < 0 && errno == EINTR) {
  }
  const timespec look{.tv_sec = 0, .tv_nsec = 50'000'000};
  for (const int64_t end = now_ns() + 2 * kGrace; ::kill(launcher_, 0) == 0;) {
    if (now_ns() > end) ::kill(launcher_, SIGKILL);
    ::nanosleep(&look, nullptr);
  }
  remove_folders(folders_);
  ::_exit(0);
}

void Front::become_launcher(const std::string& launcher, int32_t front) const {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != front) ::_exit(kExitRankLost);  // it died before the line above
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  for (const auto& [name, value] : kLauncherSettings) ::setenv(name, value, 0);
  ::setenv("OMPI_MCA_orte_tmpdir_base", folders_.front().c_str(), 1);
  ::setenv("OMPI_MCA_btl_vader_backing_directory", folders_.back().c_str(), 1);
  ::setenv(kFrontVariable, socket_.c_str(), 1);
  // By its bare name: OpenMPI takes a path for the wish to find everything else beside it.
  std::vector<std::string> words = {std::filesystem::path(launcher).filename(), "-n",
                                    std::to_string(job_.ranks)};
  words.insert(words.end(), job_.command.begin(), job_.command.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(launcher.c_str(), arguments.data());
  ::_exit(127);
}

Status Front::start(const std::string& launcher) {
  const int32_t front = ::getpid();
  launcher_ = ::fork();
  if (launcher_ == 0) become_launcher(launcher, front);
  std::array<int, 2> pipe{};
  if (launcher_ > 0 && ::pipe2(pipe.data(), O_CLOEXEC) == 0) {
    front_lives_ = pipe[1];
    janitor_ = ::fork();
    if (janitor_ == 0) become_janitor(pipe[0]);
    ::close(pipe[0]);
  }
  if (launcher_ > 0) return {};
  return error(Code::kResourceExhausted, "ranks: cannot start ", launcher, ": ", std::strerror(errno));
}

void Front::accept_rank() {
  const int connection = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
  if (connection < 0) return;
  ucred peer{};
  socklen_t length = sizeof(peer);
  const bool mine =
      ::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::getuid();
  if (mine) {
    connections_[connection] = nullptr;
  } else {
    ::close(connection);
  }
}

void Front::hear(int connection) {
  FrontNote note;
  const ssize_t bytes = ::recv(connection, &note, sizeof(note), MSG_DONTWAIT);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
  RankEnd*& end = connections_[connection];
  if (bytes == sizeof(note) && note.rank >= 0 && note.rank < job_.ranks) {
    end = &ends_[static_cast<size_t>(note.rank)];
    ucred peer{};
    socklen_t length = sizeof(peer);
    if (::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) end->pid = peer.pid;
    if (note.kind == FrontNote::Kind::kEnd) end->code = note.code;
    if (end->code.value_or(0) != 0) trouble(job_.leave_ns);
    return;
  }
  if (end != nullptr && !end->code) trouble(job_.notice_ns);  // it vanished
  ::close(connection);
  connections_.erase(connection);
}

void Front::trouble(int64_t patience_ns) {
  const int64_t end = now_ns() + patience_ns;
  patience_ends_ = patience_ends_ == 0 ? end : std::min(patience_ends_, end);
}

void Front::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof(info)) == sizeof(info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      hear_of_launcher();
      continue;
    }
    if (signal == SIGUSR1) {  // ranks write records of their last steps
      signal_ranks(SIGUSR1, Who::kAll);
      continue;
    }
    signal_ = signal_ == 0 ? signal : signal_;
    // A terminal's goes to the whole foreground group, and mpirun takes a second one for impatience.
    if (info.ssi_code != SI_KERNEL && ending_ == 0) end_launcher(signal);
    if (ending_ == 0) ending_ = now_ns();
  }
}

void Front::hear_of_launcher() {
  int status = 0;
  while (!launcher_ended_ && ::waitpid(launcher_, &status, WNOHANG | WUNTRACED | WCONTINUED) == launcher_) {
    launcher_stopped_ = WIFSTOPPED(status);
    launcher_ended_ = WIFEXITED(status) || WIFSIGNALED(status);
    if (launcher_ended_) launcher_status_ = status;
  }
}

// Without its launcher a job cannot end, and what ranks write goes nowhere. They end themselves when it is
// killed.
void Front::count_stopped(int64_t now) {
  stopped_for_ = launcher_stopped_ ? stopped_for_ + std::min(now - looked_at_, 2 * kLook) : 0;
  looked_at_ = now;
  if (stopped_for_ < kStopped || ending_ != 0) return;
  said_ = concat("ranks: the launcher (process ", launcher_,
                 ") is stopped; expected it to run; the job is ended");
  end_launcher(SIGKILL);
}

void Front::end_launcher(int signal) {
  if (!launcher_ended_) ::kill(launcher_, signal);
  if (ending_ == 0) ending_ = now_ns();
}

// The pid of a rank whose connection is open is still its own.
void Front::signal_ranks(int signal, Who who) {
  for (const auto& [connection, end] : connections_) {
    if (end == nullptr || end->pid == 0 || (who == Who::kSilent && end->code)) continue;
    ::kill(end->pid, signal);
  }
}

void Front::look(int64_t patience_ms) {
  std::vector<pollfd> waits = {{.fd = signals_, .events = POLLIN, .revents = 0},
                               {.fd = listening_, .events = POLLIN, .revents = 0},
                               {.fd = signal_ == 0 ? STDOUT_FILENO : -1, .events = 0, .revents = 0}};
  for (const auto& [connection, end] : connections_) waits.push_back({connection, POLLIN, 0});
  if (::poll(waits.data(), waits.size(), static_cast<int>(patience_ms)) <= 0) return;
  if (waits[0].revents != 0) take_signals();
  if (waits[1].revents != 0) accept_rank();
  if ((waits[2].revents & POLLERR) != 0) {  // nobody reads any more: `| head`
    signal_ = SIGPIPE;
    end_launcher(SIGTERM);
  }
  for (size_t i = 3; i < waits.size(); ++i) {
    if (waits[i].revents != 0) hear(waits[i].fd);
  }
}

JobEnd Front::watch() {
  bool killed = false;
  looked_at_ = now_ns();
  while (!launcher_ended_) {
    look(kLook / 1'000'000);
    const int64_t now = now_ns();
    count_stopped(now);
    if (patience_ends_ > 0 && ending_ == 0 && now > patience_ends_) {
      signal_ranks(SIGKILL, Who::kSilent);  // at once: one that is stopped hears no other signal
      ending_ = now;
    }
    if (ending_ == 0 || killed || now - ending_ < kGrace) continue;
    signal_ranks(SIGKILL, Who::kAll);
    if (!launcher_ended_) ::kill(launcher_, SIGKILL);
    killed = true;
  }
  // What ranks said last may still lie in the sockets; a rank that outlives its launcher ends now.
  for (int64_t until = now_ns() + kSecond; !connections_.empty() && now_ns() < until;) {
    look(10);
    if (now_ns() > until - kSecond / 2) signal_ranks(SIGKILL, Who::kAll);
  }
  JobEnd end = judge_job(ends_, {.status = launcher_status_, .ended_by_front = ending_ != 0}, signal_);
  if (said_.empty()) return end;
  return {.code = kExitRankLost, .said = said_};
}

std::string how_ended(int status) {
  return WIFSIGNALED(status) ? concat("signal ", WTERMSIG(status)) : concat("code ", WEXITSTATUS(status));
}

}  // namespace

JobEnd judge_job(const std::vector<RankEnd>& ranks, const LauncherEnd& launcher, int signal) {
  if (signal != 0) return {.code = 128 + signal, .said = ""};
  int code = 0;
  std::string vanished;
  const auto weight = [](int said) {
    switch (said) {
      case 0: return 0;
      case kExitRankLost: return 1;
      case kExitDeviceLost: return 3;
      case kExitGuardFault: return 4;
      case kExitRanksDisagree: return 5;
      default: return 2;
    }
  };
  size_t reported = 0;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankEnd& end = ranks[rank];
    if (end.pid == 0) continue;
    ++reported;
    if (!end.code)
      vanished += concat(vanished.empty() ? "" : ", ", "rank ", rank, " (process ", end.pid, ")");
    const int said = end.code.value_or(kExitRankLost);
    if (weight(said) > weight(code)) code = said;
  }
  if (reported == 0) {
    return {.code = 1,
            .said = concat("ranks: the launcher ended with ", how_ended(launcher.status),
                           " before any rank began")};
  }
  if (WIFSIGNALED(launcher.status) && !launcher.ended_by_front && code == kExitRankLost) {
    return {.code = code,
            .said = concat("ranks: the launcher ended with ", how_ended(launcher.status),
                           "; expected it to outlive its ranks, which have ended with it")};
  }
  if (!vanished.empty()) return {.code = code, .said = concat("ranks: ", vanished, " ended without a word")};
  if (reported < ranks.size() && code == 0)
    return {.code = kExitRankLost, .said = concat("ranks: ", reported, " of ", ranks.size(), " ranks began")};
  return {.code = code, .said = ""};
}

Result<JobEnd> run_rank_job(const RankJob& job) {
  const std::string launcher = find_program(job.launcher);
  if (launcher.empty()) {
    return error(Code::kNotFound, "ranks: ", job.launcher, " is not in PATH; ", job.ranks,
                 " ranks are started through it; install openmpi-bin, or ask for one rank");
  }
  Front front(job);
  LS_TRY(front.open());
  LS_TRY(front.start(launcher));
  return front.watch();
}

}  // namespace lockstep
